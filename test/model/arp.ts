/** The ARP proxy (reference §2.5, the kernel's `arp_reduce`): with it, no untagged ARP frame crosses the tunnel. */
import type { DropReason } from '../../src/dataplane/protocol.ts';
import { ipAt, macAt, macBytes } from './bytes.ts';

/** What the proxy is asked for, or why it is silent. */
export type ArpVerdict =
  | { readonly ask: string; readonly answer: (lladdr: string, router: boolean) => Buffer }
  | { readonly drop: DropReason };

export function readArp(frame: Buffer): ArpVerdict {
  const kind = frame.toString('hex', 14, 20);
  const ethernet = kind === '000108000604';
  const ieee802 = kind === '000608000604';
  if (frame.length < 42 || !(ethernet || ieee802)) return { drop: 'tx_arp_malformed' };
  const operation = frame.readUInt16BE(20);
  const sender = { mac: macAt(frame, 22), ip: ipAt(frame, 28, 4) };
  const target = ipAt(frame, 38, 4);
  const first = frame.readUInt8(38);
  // Replies, other operations, announcements, and addresses that no neighbour has: never forwarded, never answered.
  if (operation !== 1 || sender.ip === target || first === 127 || first >> 4 === 14) {
    return { drop: 'tx_arp_swallowed' };
  }
  return { ask: target, answer: (lladdr) => reply(sender.mac, frame.subarray(28, 32), lladdr, frame.subarray(38, 42)) };
}

/** 42 bytes, to the sender hardware address, from the neighbour's MAC; no padding. */
function reply(asker: string, askerIp: Buffer, lladdr: string, target: Buffer): Buffer {
  const [to, from] = [macBytes(asker), macBytes(lladdr)];
  return Buffer.concat([to, from, Buffer.from('08060001080006040002', 'hex'), from, target, to, askerIp]);
}
