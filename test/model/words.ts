/** A frame or datagram in the words of tcpdump, for people who read a failed test. */
import { ipAt, macAt } from './bytes.ts';
import { parseVirtio, type Virtio } from './offload.ts';
import { ARP, ethernetOf, ICMPV6, IPV4, IPV6, TCP, transportOf, UDP } from './packet.ts';

export { parseVirtio };

export function words(frame: Buffer, virtio: Virtio = {}): string {
  const ethernet = ethernetOf(frame);
  if (ethernet === undefined) return `runt of ${frame.length} bytes`;
  const tags: string[] = [];
  for (let at = 12; at < ethernet.network - 2; at += 4) {
    const kind = frame.readUInt16BE(at) === 0x88a8 ? '802.1ad' : '802.1Q';
    tags.push(`${kind} ${frame.readUInt16BE(at + 2) & 0xfff}`);
  }
  const parts = [`${ethernet.source} > ${ethernet.destination}`, ...tags, networkWords(frame, ethernet)];
  if (virtio.checksum !== undefined) parts.push(`checksum partial from ${virtio.checksum.start}`);
  if (virtio.gso !== undefined) parts.push(`superframe of ${virtio.gso.size}-byte segments`);
  return `${parts.join(', ')} (${frame.length} bytes)`;
}

/** A VXLAN datagram's payload. */
export function vxlanWords(payload: Buffer): string {
  if (payload.length < 8) return `VXLAN cut: ${payload.toString('hex')}`;
  const strange = payload.toString('hex', 0, 4) !== '08000000' || payload[7] !== 0;
  const header = strange ? `VXLAN header ${payload.toString('hex', 0, 8)}` : `VXLAN vni ${payload.readUIntBE(4, 3)}`;
  return `${header}: ${words(payload.subarray(8))}`;
}

function networkWords(frame: Buffer, { type, network }: { type: number; network: number }): string {
  const packet = frame.subarray(network);
  if (type === ARP) return arpWords(packet);
  if (type === IPV4) return packet.length < 20 ? `IPv4 cut: ${packet.toString('hex')}` : ipWords(frame, network, 4);
  if (type === IPV6) return packet.length < 40 ? `IPv6 cut: ${packet.toString('hex')}` : ipWords(frame, network, 6);
  return `ethertype 0x${type.toString(16).padStart(4, '0')}`;
}

function arpWords(arp: Buffer): string {
  if (arp.length < 28) return `ARP cut: ${arp.toString('hex')}`;
  const kind = arp.toString('hex', 0, 6) === '000108000604' ? 'ARP' : `ARP of kind ${arp.toString('hex', 0, 6)}`;
  const operation = arp.readUInt16BE(6);
  const sender = `${ipAt(arp, 14, 4)} (${macAt(arp, 8)})`;
  if (operation === 1) return `${kind} who-has ${ipAt(arp, 24, 4)} tell ${sender}`;
  return `${kind} ${operation === 2 ? 'reply' : `operation ${operation}`} ${sender} to ${ipAt(arp, 24, 4)}`;
}

function ipWords(frame: Buffer, network: number, family: 4 | 6): string {
  const [source, destination] = family === 4 ? [12, 16] : [8, 24];
  const ip = frame.subarray(network);
  const tos = family === 4 ? ip.readUInt8(1) : (ip.readUInt16BE(0) >> 4) & 0xff;
  const length = family === 4 ? ip.readUInt16BE(2) : 40 + ip.readUInt16BE(4);
  const protocol = ip.readUInt8(family === 4 ? 9 : 6);
  const facts = [`IPv${family} ${ipAt(ip, source, family)} > ${ipAt(ip, destination, family)}`];
  if (tos !== 0) facts.push(`tos 0x${tos.toString(16)}`);
  if (length !== ip.length) facts.push(`length ${length} of ${ip.length}`);
  const at = transportOf(frame);
  if (at !== undefined) {
    const ports = `${frame.readUInt16BE(at.transport)} > ${frame.readUInt16BE(at.transport + 2)}`;
    const flags = at.protocol === TCP ? ` flags 0x${frame.readUInt8(at.transport + 13).toString(16)}` : '';
    const sequence = at.protocol === TCP ? ` seq ${frame.readUInt32BE(at.transport + 4)}` : '';
    facts.push(`${at.protocol === UDP ? 'UDP' : 'TCP'} ${ports}${flags}${sequence}, ${at.end - at.payload} of payload`);
  } else if (protocol === ICMPV6 && family === 6 && ip.length > 41) {
    facts.push(icmpv6Words(ip));
  } else {
    facts.push(`protocol ${protocol}`);
  }
  return facts.join(', ');
}

function icmpv6Words(ip: Buffer): string {
  const type = ip.readUInt8(40);
  const names: Record<number, string> = {
    133: 'router solicitation',
    135: 'neighbour solicitation',
    136: 'neighbour advertisement',
  };
  const target = (type === 135 || type === 136) && ip.length >= 64 ? ` for ${ipAt(ip, 48, 6)}` : '';
  return `ICMPv6 ${names[type] ?? `type ${type}`} code ${ip.readUInt8(41)}${target}`;
}
