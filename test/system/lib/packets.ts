/** Packets built by hand, byte by byte, for what no kernel would send. Nothing of vtepd's own code is used. */

export function mac(text: string): Buffer {
  return Buffer.from(text.replaceAll(':', ''), 'hex');
}

function ipv4Bytes(text: string): Buffer {
  return Buffer.from(text.split('.').map(Number));
}

/** RFC 1071. */
function checksum(bytes: Buffer): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2)
    sum += bytes.length - at === 1 ? (bytes[at] ?? 0) << 8 : bytes.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

export function ethernet(destination: string, source: string, ethertype: number, payload: Buffer): Buffer {
  const type = Buffer.alloc(2);
  type.writeUInt16BE(ethertype);
  return Buffer.concat([mac(destination), mac(source), type, payload]);
}

/** An IPv4 packet without options, TTL 64. */
export function ipv4(source: string, destination: string, protocol: number, payload: Buffer, tos = 0): Buffer {
  const header = Buffer.alloc(20);
  header[0] = 0x45;
  header[1] = tos;
  header.writeUInt16BE(20 + payload.length, 2);
  header[8] = 64;
  header[9] = protocol;
  ipv4Bytes(source).copy(header, 12);
  ipv4Bytes(destination).copy(header, 16);
  header.writeUInt16BE(checksum(header), 10);
  return Buffer.concat([header, payload]);
}

/** A UDP datagram without checksum, as IPv4 allows (RFC 768). */
export function udp(source: number, destination: number, payload: Buffer): Buffer {
  const header = Buffer.alloc(8);
  header.writeUInt16BE(source, 0);
  header.writeUInt16BE(destination, 2);
  header.writeUInt16BE(8 + payload.length, 4);
  return Buffer.concat([header, payload]);
}

/** RFC 7348 section 5; `flags` and `last` are there to be wrong. */
export function vxlan(vni: number, frame: Buffer, { flags = 0x08, last = 0 } = {}): Buffer {
  const header = Buffer.alloc(8);
  header[0] = flags;
  header.writeUIntBE(vni, 4, 3);
  header[7] = last;
  return Buffer.concat([header, frame]);
}

export function arp(operation: number, sender: string, senderIp: string, target: string, targetIp: string): Buffer {
  const head = Buffer.from([0, 1, 8, 0, 6, 4, 0, operation]);
  return Buffer.concat([head, mac(sender), ipv4Bytes(senderIp), mac(target), ipv4Bytes(targetIp)]);
}

/** An IPv6 packet; addresses as 16 bytes in hexadecimal. */
export function ipv6(source: string, destination: string, next: number, payload: Buffer, hopLimit = 255): Buffer {
  const header = Buffer.alloc(8);
  header[0] = 0x60;
  header.writeUInt16BE(payload.length, 4);
  header[6] = next;
  header[7] = hopLimit;
  return Buffer.concat([header, Buffer.from(source, 'hex'), Buffer.from(destination, 'hex'), payload]);
}

/** Random bytes that a seed gives again: xorshift32. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0 || 1;
  }

  below(limit: number): number {
    this.#state ^= this.#state << 13;
    this.#state ^= this.#state >>> 17;
    this.#state ^= this.#state << 5;
    return (this.#state >>> 0) % limit;
  }

  bytes(length: number): Buffer {
    return Buffer.from(Array.from({ length }, () => this.below(256)));
  }
}
