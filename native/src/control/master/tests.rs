//! The tables of one network: whose word counts, what is refused, what is learned and told.

use super::*;
use crate::control::error::RpcError;
use crate::control::protocol::{EntryVerb, FdbEntry, FdbFlush, Neighbour, TablesPatch, TablesReplace};
use crate::tables::PortKey;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

fn master(maxaddress: u32) -> Master {
    let mut network = Network::new(0, 1, PortKey { v6: false, port: 8472 });
    network.mac = Mac([2, 0, 0, 0, 0, 0xfe]);
    (network.proxy, network.learning, network.peersonly) = (true, true, true);
    Master::new(network, Limits::of(maxaddress))
}

fn mac(last: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, last])
}

fn ip(last: u8) -> IpAddr {
    [10, 245, 1, last].into()
}

fn to(last: u8) -> Destination {
    Destination { ip: ip(last), port: None, vni: None, via: None }
}

fn entry(last: u8, at: u8) -> FdbEntry {
    FdbEntry { mac: mac(last), destinations: vec![to(at)], state: EntryState::Permanent, router: None }
}

fn neighbour(prefix: &str, last: u8) -> Neighbour {
    Neighbour { prefix: prefix.parse().unwrap(), lladdr: mac(last) }
}

fn replace(revision: u64, fdb: Vec<FdbEntry>, neighbours: Vec<Neighbour>) -> TablesReplace {
    TablesReplace { network: "x".into(), source: "etcd".into(), revision, fdb, neighbours, peers: vec![] }
}

fn patch(base: u64) -> TablesPatch {
    TablesPatch {
        network: "x".into(),
        source: "etcd".into(),
        base,
        revision: base + 1,
        fdb_remove: vec![],
        fdb_set: vec![],
        neighbours_remove: vec![],
        neighbours_set: vec![],
        peers_remove: vec![],
        peers_add: vec![],
    }
}

fn destination(master: &Master, last: u8) -> Option<IpAddr> {
    master.network.fdb.get(&mac(last)).map(|entry| entry.targets[0].address.ip())
}

fn error(result: Result<(), RpcError>) -> String {
    result.unwrap_err().data.name
}

#[test]
fn replace_changes_only_the_difference_and_only_its_own_source() {
    let mut master = master(0);
    master.change_fdb(EntryVerb::Add, mac(9), Some(to(9)), None, None, 0).unwrap();
    let first = master.replace(replace(5, vec![entry(1, 1), entry(2, 2)], vec![neighbour("10.246.1.0/24", 1)]), 0).unwrap();
    assert_eq!((first.added, first.changed, first.removed), (3, 0, 0));
    let kept = Arc::clone(master.network.fdb.get(&mac(1)).unwrap());
    let second = master.replace(replace(6, vec![entry(1, 1), entry(2, 3)], vec![]), 0).unwrap();
    assert_eq!((second.added, second.changed, second.removed), (0, 1, 1));
    assert!(Arc::ptr_eq(&kept, master.network.fdb.get(&mac(1)).unwrap()), "an entry that stays is not touched");
    assert_eq!((destination(&master, 2), destination(&master, 9)), (Some(ip(3)), Some(ip(9))));
    assert_eq!(master.network.peers.len(), 3, "VTEPs 1, 3 and 9 may send; 2 no longer");
    assert!(master.network.peers.get(&ip(2)).is_none());
    assert_eq!(master.revisions(), BTreeMap::from([("etcd".to_owned(), 6)]));
}

#[test]
fn a_patch_against_another_revision_changes_nothing() {
    let mut master = master(0);
    master.replace(replace(5, vec![entry(1, 1)], vec![]), 0).unwrap();
    let wrong = TablesPatch { fdb_remove: vec![mac(1)], ..patch(4) };
    assert_eq!(master.patch(wrong, 0).unwrap_err().data.name, "REVISION_MISMATCH");
    assert_eq!(destination(&master, 1), Some(ip(1)));
    let right = TablesPatch { fdb_remove: vec![mac(1), mac(7)], fdb_set: vec![entry(2, 1)], peers_add: vec![ip(8)], ..patch(5) };
    let changed = master.patch(right, 0).unwrap();
    assert_eq!((changed.added, changed.removed), (2, 1));
    assert_eq!((destination(&master, 1), destination(&master, 2)), (None, Some(ip(1))));
    assert!(master.network.peers.get(&ip(8)).is_some());
}

#[test]
fn a_bad_entry_refuses_the_whole_request() {
    let mut master = master(0);
    let two = FdbEntry { destinations: vec![to(1), to(2)], ..entry(3, 1) };
    let v6 = FdbEntry {
        destinations: vec![Destination { ip: "fd00::1".parse().unwrap(), port: None, vni: None, via: None }],
        ..entry(3, 1)
    };
    let none = FdbEntry { destinations: vec![], ..entry(3, 1) };
    for (bad, name) in [(two, "EINVAL"), (v6, "EAFNOSUPPORT"), (none, "EINVAL")] {
        let refused = master.replace(replace(1, vec![entry(1, 1), bad], vec![]), 0).unwrap_err();
        assert_eq!(refused.data.name, name);
        assert_eq!((master.fdb_len(), master.network.fdb.len(), master.network.peers.len()), (0, 0, 0));
    }
}

#[test]
fn by_hand_wins_over_the_datastore_and_the_datastore_over_learned() {
    let mut master = master(0);
    assert_eq!(master.learn(mac(1), ip(1), 0), Learning::Learned);
    master.replace(replace(1, vec![entry(1, 2)], vec![neighbour("10.246.1.0/24", 1)]), 0).unwrap();
    assert_eq!(destination(&master, 1), Some(ip(2)));
    assert_eq!(master.learn(mac(1), ip(1), 0), Learning::Unchanged);
    master.change_fdb(EntryVerb::Add, mac(1), Some(to(3)), None, None, 0).unwrap();
    master.change_neighbour(EntryVerb::Add, "10.246.1.0/24".parse().unwrap(), Some(mac(7))).unwrap();
    assert_eq!(destination(&master, 1), Some(ip(3)));
    assert_eq!(master.network.neighbours.lookup("10.246.1.1".parse().unwrap()), Some(mac(7)));
    let dump = master.dump(0);
    let seen: Vec<_> = dump.fdb.iter().map(|entry| (entry.source.as_str(), entry.active)).collect();
    assert_eq!(seen, [("hand", true), ("etcd", false), ("learned", false)]);
    master.change_fdb(EntryVerb::Del, mac(1), None, None, None, 0).unwrap();
    master.change_neighbour(EntryVerb::Del, "10.246.1.0/24".parse().unwrap(), None).unwrap();
    assert_eq!(destination(&master, 1), Some(ip(2)));
    assert_eq!(master.network.neighbours.lookup("10.246.1.1".parse().unwrap()), Some(mac(1)));
    assert_eq!(error(master.change_fdb(EntryVerb::Del, mac(2), None, None, None, 0)), "ENOENT");
}

#[test]
fn the_verbs_refuse_what_bridge_fdb_refuses_and_what_it_ignores() {
    let mut master = master(0);
    let list = Mac::ZERO;
    master.change_fdb(EntryVerb::Append, list, Some(to(1)), None, None, 0).unwrap();
    master.change_fdb(EntryVerb::Append, list, Some(to(2)), None, None, 0).unwrap();
    assert_eq!(error(master.change_fdb(EntryVerb::Append, list, Some(to(2)), None, None, 0)), "EEXIST");
    let spelled_out = Destination { port: Some(8472), vni: Some(1), ..to(2) };
    assert_eq!(error(master.change_fdb(EntryVerb::Append, list, Some(spelled_out), None, None, 0)), "EEXIST");
    assert_eq!(error(master.change_fdb(EntryVerb::Add, list, Some(to(3)), None, None, 0)), "EEXIST");
    assert_eq!(error(master.change_fdb(EntryVerb::Replace, list, Some(to(3)), None, None, 0)), "EOPNOTSUPP");
    assert_eq!(master.network.fdb.get(&list).unwrap().targets.len(), 2);
    assert_eq!(error(master.change_fdb(EntryVerb::Del, list, Some(to(3)), None, None, 0)), "ENOENT");
    master.change_fdb(EntryVerb::Del, list, Some(to(1)), None, None, 0).unwrap();
    assert_eq!(master.network.fdb.get(&list).unwrap().targets[0].address.ip(), ip(2));
    master.change_fdb(EntryVerb::Del, list, Some(to(2)), None, None, 0).unwrap();
    assert_eq!((master.fdb_len(), master.network.peers.len(), master.network.sends_as.len()), (0, 0, 0));

    master.change_fdb(EntryVerb::Replace, mac(1), Some(to(1)), None, None, 0).unwrap();
    master.change_fdb(EntryVerb::Replace, mac(1), Some(to(2)), None, None, 0).unwrap();
    assert_eq!(error(master.change_fdb(EntryVerb::Append, mac(1), Some(to(3)), None, None, 0)), "EOPNOTSUPP");
    assert_eq!(error(master.change_fdb(EntryVerb::Add, mac(2), None, None, None, 0)), "EINVAL");
    let v6 = Destination { ip: "fd00::1".parse().unwrap(), port: None, vni: None, via: None };
    assert_eq!(error(master.change_fdb(EntryVerb::Add, mac(2), Some(v6), None, None, 0)), "EAFNOSUPPORT");
    assert_eq!(error(master.change_neighbour(EntryVerb::Append, "10.0.0.1/32".parse().unwrap(), Some(mac(1)))), "EOPNOTSUPP");
    assert_eq!(error(master.change_neighbour(EntryVerb::Add, "10.0.0.1/32".parse().unwrap(), Some(Mac::BROADCAST))), "EINVAL");
}

#[test]
fn a_move_keeps_the_port_that_was_said_by_hand() {
    let mut master = master(3);
    let there = Destination { port: Some(9999), ..to(1) };
    master.change_fdb(EntryVerb::Add, mac(1), Some(there), Some(EntryState::Dynamic), None, 0).unwrap();
    assert_eq!(master.learn(mac(1), ip(2), 1), Learning::Moved(ip(1)));
    let entry = master.network.fdb.get(&mac(1)).unwrap();
    assert_eq!(entry.targets.iter().map(|target| target.address).collect::<Vec<_>>(), [SocketAddr::new(ip(2), 9999)]);
}

#[test]
fn learned_entries_move_age_and_end_at_the_limit() {
    let mut master = master(3);
    assert_eq!(master.learn(mac(1), ip(1), 10), Learning::Learned);
    assert_eq!(master.learn(mac(1), ip(1), 11), Learning::Unchanged);
    assert_eq!(master.learn(mac(1), ip(2), 12), Learning::Moved(ip(1)));
    assert_eq!(master.learn(mac(2), ip(2), 20), Learning::Learned);
    assert_eq!(master.learn(mac(3), ip(2), 20), Learning::Learned);
    assert_eq!(master.learn(mac(4), ip(2), 20), Learning::Full);
    assert_eq!(error(master.change_fdb(EntryVerb::Add, mac(5), Some(to(1)), None, None, 0)), "ENOSPC");
    master.network.fdb.get(&mac(2)).unwrap().used.store(29, Relaxed);
    assert_eq!(master.age(10, 22), [(mac(1), ip(2))]);
    assert_eq!(master.age(10, 30), [(mac(3), ip(2))]);
    assert_eq!((master.fdb_len(), master.network.fdb.len(), master.learned.total), (1, 1, 1));
    assert_eq!(master.network.peers.len(), 1);
}

#[test]
fn what_goes_makes_room_for_what_comes_in_one_request() {
    let mut master = master(2);
    master.replace(replace(1, vec![entry(1, 1), entry(2, 2)], vec![]), 0).unwrap();
    master.replace(replace(2, vec![entry(3, 3), entry(4, 4)], vec![]), 0).unwrap();
    assert_eq!((master.fdb_len(), destination(&master, 3), destination(&master, 1)), (2, Some(ip(3)), None));
    let more = TablesPatch { fdb_remove: vec![mac(3), mac(3)], fdb_set: vec![entry(5, 5)], ..patch(2) };
    master.patch(more, 0).unwrap();
    assert_eq!((master.fdb_len(), destination(&master, 5)), (2, Some(ip(5))));
    let too_many = master.replace(replace(4, vec![entry(1, 1), entry(2, 2), entry(5, 5)], vec![]), 0);
    assert_eq!(too_many.unwrap_err().data.name, "ENOSPC");
    // Where somebody else has an entry for the MAC, nothing becomes free.
    master.change_fdb(EntryVerb::Add, mac(4), Some(to(9)), None, None, 0).unwrap();
    let refused = master.replace(replace(5, vec![entry(1, 1), entry(5, 5)], vec![]), 0);
    assert_eq!(refused.unwrap_err().data.name, "ENOSPC");
    master.limits.entries = 1;
    master.replace(replace(6, vec![entry(4, 1), entry(5, 6)], vec![]), 0).unwrap();
    assert_eq!((master.fdb_len(), destination(&master, 5)), (2, Some(ip(6))), "a lower limit keeps no table from its changes");
}

#[test]
fn a_flush_removes_exactly_what_matches_and_leaves_the_datastore_its_own() {
    let mut master = master(0);
    let none = FdbFlush { network: "x".into(), state: None, dst: None, port: None, vni: None, via: None, router: None };
    let add = |master: &mut Master, verb, mac, to, state, router| {
        master.change_fdb(verb, mac, Some(to), Some(state), Some(router), 0).unwrap();
    };
    let there = Destination { port: Some(4789), vni: Some(9), via: Some("eth1".into()), ..to(2) };
    add(&mut master, EntryVerb::Add, Mac::ZERO, to(1), EntryState::Permanent, false);
    add(&mut master, EntryVerb::Append, Mac::ZERO, there.clone(), EntryState::Permanent, false);
    add(&mut master, EntryVerb::Add, mac(1), there, EntryState::Static, true);
    add(&mut master, EntryVerb::Add, mac(2), to(2), EntryState::Dynamic, false);
    master.learn(mac(3), ip(3), 0);
    master.replace(replace(1, vec![entry(4, 2)], vec![]), 0).unwrap();
    let mut flush = |request: FdbFlush| {
        let flushed = master.flush(&request, 0);
        (flushed.removed, flushed.reduced, flushed.kept)
    };
    assert_eq!(flush(FdbFlush { vni: Some(7), ..none.clone() }), (0, 0, 0));
    assert_eq!(flush(FdbFlush { state: Some(EntryState::Static), router: Some(false), ..none.clone() }), (0, 0, 0));
    assert_eq!(flush(FdbFlush { port: Some(4789), dst: Some(ip(2)), ..none.clone() }), (1, 1, 0));
    assert_eq!(flush(FdbFlush { dst: Some(ip(2)), port: Some(8472), vni: Some(1), ..none.clone() }), (1, 0, 1));
    assert_eq!(flush(FdbFlush { state: Some(EntryState::Dynamic), ..none.clone() }), (1, 0, 0));
    assert_eq!(flush(none), (1, 0, 1));
    assert_eq!(destination(&master, 4), Some(ip(2)));
    assert_eq!((master.fdb_len(), master.network.peers.len(), master.learned.total), (1, 1, 0));
}

#[test]
fn a_new_default_destination_replaces_the_old_one_only() {
    let mut master = master(0);
    let list = |master: &Master| -> Vec<IpAddr> {
        master.network.fdb.get(&Mac::ZERO).map_or(vec![], |entry| entry.targets.iter().map(|to| to.address.ip()).collect())
    };
    master.change_default(None, Some(ip(1)), 0).unwrap();
    master.change_fdb(EntryVerb::Append, Mac::ZERO, Some(to(2)), None, None, 0).unwrap();
    master.change_default(Some(ip(1)), Some(ip(3)), 0).unwrap();
    assert_eq!(list(&master), [ip(2), ip(3)]);
    master.change_default(Some(ip(3)), Some(ip(2)), 0).unwrap();
    assert_eq!(list(&master), [ip(2)], "not doubled");
    master.change_default(Some(ip(9)), None, 0).unwrap();
    assert_eq!(list(&master), [ip(2)]);
    master.learn(mac(1), ip(1), 5);
    master.network.options.flowlabel = 7;
    master.republish(100);
    assert_eq!(master.age(10, 20).len(), 1, "ages stay");
}

#[test]
fn every_change_by_request_is_told_once() {
    let mut master = master(0);
    master.replace(replace(1, vec![entry(1, 1)], vec![neighbour("10.246.1.0/24", 1)]), 0).unwrap();
    master.replace(replace(2, vec![entry(1, 2)], vec![]), 0).unwrap();
    master.learn(mac(7), ip(7), 0);
    master.replace(replace(3, vec![entry(1, 2)], vec![]), 0).unwrap();
    master.change_fdb(EntryVerb::Del, mac(7), None, None, None, 0).unwrap();
    let (notices, lost) = master.journal.take("vx0");
    let told: Vec<String> = notices
        .iter()
        .map(|(method, params)| format!("{method} {} {}", params["what"].as_str().unwrap(), params["source"].as_str().unwrap()))
        .collect();
    assert_eq!(told, ["fdb new etcd", "neigh new etcd", "fdb changed etcd", "neigh deleted etcd", "fdb deleted learned"]);
    assert_eq!(lost, 0);
    assert_eq!(notices[2].1["destinations"][0]["ip"], "10.245.1.2");
    assert!(master.journal.take("vx0").0.is_empty());
}

#[test]
fn what_the_host_knows_answers_where_nobody_else_does_and_goes_with_it() {
    let mut master = master(0);
    let address: IpAddr = "10.246.1.5".parse().unwrap();
    assert!(master.set_kernel_neighbour(address, Some(mac(5))));
    assert!(!master.set_kernel_neighbour(address, Some(mac(5))), "no news");
    assert!(!master.set_kernel_neighbour("224.0.0.1".parse().unwrap(), Some(mac(5))));
    assert_eq!(master.network.neighbour(address), Some(mac(5)));
    master.change_neighbour(EntryVerb::Add, "10.246.1.0/24".parse().unwrap(), Some(mac(7))).unwrap();
    assert_eq!(master.network.neighbour(address), Some(mac(7)), "the weakest, however long the prefix");
    let seen: Vec<_> = master.dump(0).neighbours.into_iter().map(|entry| (entry.source, entry.active)).collect();
    assert_eq!(seen, [("hand".to_owned(), true), ("kernel".to_owned(), false)]);
    master.change_neighbour(EntryVerb::Del, "10.246.1.0/24".parse().unwrap(), None).unwrap();
    let cache = HashMap::from([("10.246.1.6".parse().unwrap(), mac(6))]);
    assert!(master.replace_kernel_neighbours(&cache));
    assert!(!master.replace_kernel_neighbours(&cache));
    assert_eq!((master.network.neighbour(address), master.network.kernel_neighbours.len()), (None, 1));
    assert!(master.replace_kernel_neighbours(&HashMap::new()));
    assert!(master.network.kernel_neighbours.is_empty());
}

#[test]
fn a_peer_has_its_share_and_an_entry_moves_only_so_often() {
    let mut master = master(0);
    master.limits = Limits { per_peer: 2, moves: 2, ..master.limits };
    assert_eq!(master.learn(mac(1), ip(1), 0), Learning::Learned);
    assert_eq!(master.learn(mac(2), ip(1), 0), Learning::Learned);
    assert_eq!(master.learn(mac(3), ip(1), 0), Learning::Full);
    assert_eq!(master.learn(mac(3), ip(2), 0), Learning::Learned, "another peer has its own share");
    assert_eq!(master.learn(mac(3), ip(1), 0), Learning::Full, "nor does a move get round it");
    assert_eq!(master.refused, 2);
    assert_eq!(master.learn(mac(1), ip(2), 1), Learning::Moved(ip(1)));
    assert_eq!(master.learn(mac(1), ip(3), 2), Learning::Moved(ip(2)));
    assert_eq!(master.learn(mac(1), ip(4), 3), Learning::Held(ip(3)));
    assert_eq!(master.learn(mac(1), ip(4), 4), Learning::Unchanged, "told once");
    assert_eq!(master.network.fdb.get(&mac(1)).unwrap().held.load(Relaxed), 64);
    assert_eq!(master.learn(mac(1), ip(4), 64), Learning::Moved(ip(3)), "forgiven after a minute");
    assert_eq!(master.network.fdb.get(&mac(1)).unwrap().held.load(Relaxed), 0);
    master.change_fdb(EntryVerb::Del, mac(2), None, None, None, 5).unwrap();
    assert_eq!(master.learned.at(ip(1)), 0);
    assert_eq!(master.learned.total, 2);
}
