//! Makes `src/dataplane/protocol.ts` and `docs/drop-reasons.md` from the Rust definitions.

use super::protocol::*;
use crate::drops::DropReason;
use crate::wire::Mac;
use crate::{protocol_methods, protocol_notifications};
use std::fmt::Write as _;
use std::path::Path;
use ts_rs::{Config, TS};

fn declaration<T: TS>(out: &mut String, config: &Config) {
    if let Some(docs) = T::docs() {
        out.push_str(&docs);
    }
    writeln!(out, "export {}\n", T::decl(config)).unwrap();
}

fn typescript() -> String {
    let config = Config::default();
    let mut out = String::from(
        "// Generated from native/src/control/protocol/ and native/src/drops.rs by `UPDATE=1 cargo test generated`. Do not edit.\n\n",
    );
    writeln!(out, "export const PROTOCOL = {PROTOCOL};\n").unwrap();
    writeln!(out, "/** `RTPROT_*` number of the routes that vtepd makes. */\nexport const ROUTE_PROTOCOL = {ROUTE_PROTOCOL};\n")
        .unwrap();
    macro_rules! declare { ($($name:ident)+) => { $(declaration::<$name>(&mut out, &config);)+ } }
    declare! {
        Mac Empty Hello Capabilities NetworkSpec OuterField OuterWord OuterDf PortRange NetworkState NetworkName NetworkUpdate Destination EntryState FdbEntry Neighbour
        TablesReplace TablesPatch TablesChanged FdbDump NeighbourDump TablesDump EntryVerb FdbChange FdbFlush FdbFlushed NeighChange HostRead HostFacts
        LinkFacts AddressFacts RouteFacts BlackholeFacts RouteGet HostChange HostOperation HostChanged RpcErrorData Traffic NetworkStats LaneStats
        PeerStats Stats MissEvent FdbEvent FdbNotification NeighbourNotification ChangedEvent LinkEvent OffloadEvent OffloadState OffloadSet LanesSet Shutdown DropReason
    }
    out.push_str("/** What each drop reason means and what to do about it. */\nexport const DROP_REASONS: { readonly [reason in DropReason]: { readonly text: string; readonly hint: string } } = {\n");
    for reason in DropReason::ALL {
        writeln!(out, "  {}: {{ text: {:?}, hint: {:?} }},", reason.name(), reason.text().trim(), reason.hint()).unwrap();
    }
    out.push_str("};\n\n/** Method name -> parameters and result. */\nexport interface Methods {\n");
    macro_rules! methods { ($($name:literal => $function:ident($params:ty) -> $result:ty;)+) => { $(
        writeln!(out, "  {:?}: {{ params: {}; result: {} }};", $name, <$params as TS>::name(&config), <$result as TS>::name(&config)).unwrap();
    )+ } }
    protocol_methods!(methods);
    out.push_str("}\n\n/** Notification name -> what it carries. */\nexport interface Notifications {\n");
    macro_rules! notifications { ($($name:literal => $params:ty;)+) => { $(
        writeln!(out, "  {:?}: {};", $name, <$params as TS>::name(&config)).unwrap();
    )+ } }
    protocol_notifications!(notifications);
    out.push_str("}\n");
    out
}

fn markdown() -> String {
    let mut out = String::from(
        "# Drop reasons\n\nEvery frame that dies is counted under one of these names: `vtepd drops` shows them. Generated from\n`native/src/drops.rs`.\n\n| reason | meaning | what to do |\n|---|---|---|\n",
    );
    for reason in DropReason::ALL {
        writeln!(out, "| `{}` | {} | {} |", reason.name(), reason.text().trim(), reason.hint()).unwrap();
    }
    out
}

fn check(path: &str, content: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
    }
    let held = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(held == content, "{} is out of date: run UPDATE=1 cargo test generated", path.display());
}

#[test]
fn generated_files_are_current() {
    check("src/dataplane/protocol.ts", &typescript());
    check("docs/drop-reasons.md", &markdown());
}
