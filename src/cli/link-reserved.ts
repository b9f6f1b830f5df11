/**
 * `reserved_bits` of `ip link`: a mask of the VXLAN header's bits that drop a datagram when they are set. The protocol of
 * the dataplane names the bits that may be set: the same, turned round.
 */

const ALL = 0xffff_ffff_ffff_ffffn;
/** I flag and VNI (RFC 7348 section 5), which cannot be reserved. */
const USED = 0x0800_0000_ffff_ff00n;

/** The kernel's default mask, 0xf7ffffff000000ff, gives no bit at all. */
export function acceptedFromReserved(text: string): string {
  const mask = /^(0x[0-9a-f]{1,16}|[0-9]{1,20})$/i.test(text) ? BigInt(text) : -1n;
  if (mask < 0n || mask > ALL) throw new Error(`"${text}" is no 64-bit number; 0xf7ffffff000000ff is the default`);
  if ((mask & USED) !== 0n) throw new Error(`${text} reserves the I flag or bits of the VNI (${hex(USED)})`);
  return hex(ALL & ~USED & ~mask);
}

export function reservedFromAccepted(text: string): string {
  return hex(ALL & ~USED & ~BigInt(text));
}

function hex(bits: bigint): string {
  return `0x${bits.toString(16).padStart(16, '0')}`;
}
