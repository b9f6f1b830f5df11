//! The ARP and ND proxy: what the host asks is answered from the neighbour table.

use super::{Context, Device, Report, tap_error};
use crate::drops::DropReason;
use crate::tables::Network;
use crate::wire::ethernet::Ethernet;
use crate::wire::virtio::VirtioHeader;
use crate::wire::{Mac, arp, ethernet, nd};
use std::io::IoSlice;
use std::net::IpAddr;

/// Answers what the proxy can answer. True when the frame was consumed by an answer.
pub fn answer(
    context: &mut Context,
    device: &Device,
    network: &Network,
    frame: &[u8],
    ethernet: &Ethernet,
) -> Result<bool, DropReason> {
    match ethernet.ethertype {
        ethernet::ARP => {
            let request = match arp::parse(frame) {
                arp::Arp::Request(request) => request,
                arp::Arp::Swallow => return Err(DropReason::TxArpSwallowed),
                arp::Arp::Malformed => return Err(DropReason::TxArpMalformed),
            };
            let lladdr = answering(context, device, network, request.target.into()).ok_or(DropReason::TxArpUnanswered)?;
            device.counters.arp_replies.add(1);
            reply(context, device, &arp::reply(&request, lladdr))
        }
        ethernet::IPV6 => {
            let solicitation = match nd::parse(frame) {
                nd::Nd::Solicitation(solicitation) => solicitation,
                nd::Nd::Malformed => return Err(DropReason::TxNdMalformed),
                nd::Nd::Other => return Ok(false),
            };
            let lladdr = answering(context, device, network, solicitation.target.into()).ok_or(DropReason::TxNdUnanswered)?;
            let router = network.fdb.get(&lladdr).is_some_and(|entry| entry.router);
            device.counters.nd_replies.add(1);
            reply(context, device, &nd::advertisement(&solicitation, lladdr, router))
        }
        _ => Ok(false),
    }
}

/// The MAC that the proxy answers with.
fn answering(context: &mut Context, device: &Device, network: &Network, ip: IpAddr) -> Option<Mac> {
    known(context, device, network, ip).filter(|lladdr| !network.is_local(*lladdr))
}

/// The MAC of a neighbour; one that nobody knows is told.
pub fn known(context: &mut Context, device: &Device, network: &Network, ip: IpAddr) -> Option<Mac> {
    let lladdr = network.neighbour(ip);
    if lladdr.is_none() && network.options.l3miss {
        context.report(Report::MissIp { slot: device.slot, ip });
    }
    lladdr
}

/// Hands a frame to the host.
pub fn reply(context: &Context, device: &Device, frame: &[u8]) -> Result<bool, DropReason> {
    context.counters.tap_writes.add(1);
    let header = VirtioHeader::default().to_bytes();
    match device.write(&[IoSlice::new(&header), IoSlice::new(frame)]) {
        Ok(()) => Ok(true),
        Err(errno) => Err(tap_error(errno)),
    }
}

/// True where the proxy simply had no answer; what is malformed dies in every mode.
pub fn is_unanswered(reason: DropReason) -> bool {
    matches!(reason, DropReason::TxArpUnanswered | DropReason::TxArpSwallowed | DropReason::TxNdUnanswered)
}
