/** Which subnets a host may lease (flannel `pkg/subnet/etcd/local_manager.go`, `allocateSubnet`). */
import { bigIntToIp, type Ipv4, ipToBigInt, ipv4ToNumber, numberToIpv4 } from '../net/ip.ts';
import { type Prefix, prefixBase, prefixFamily, prefixLength, prefixOf } from '../net/prefix.ts';
import type { Ipv6Range, NetworkConfig } from './config.ts';

/** As many free subnets as flannel collects before it picks one at random: enough that hosts starting together differ. */
const CANDIDATES_MAX = 100;

/** The first free subnets of the range, at most 100, in order; those that overlap a taken one are left out. */
export function candidateSubnets(config: NetworkConfig, taken: Iterable<Prefix>): Prefix[] {
  const size = 2 ** (32 - config.subnetLen);
  const last = ipv4ToNumber(config.subnetMax);
  const spans = sortedSpans(taken);
  const free: Prefix[] = [];
  let next = 0;
  for (let base = ipv4ToNumber(config.subnetMin); base <= last && free.length < CANDIDATES_MAX; ) {
    // Spans are sorted by start, and `base` only grows: one that ends below it never matters again.
    while (next < spans.length && (spans[next] as Span).end <= base) next += 1;
    const span = spans[next];
    if (span !== undefined && span.start < base + size) {
      base = Math.ceil(span.end / size) * size;
    } else {
      free.push(`${numberToIpv4(base)}/${config.subnetLen}` as Prefix);
      base += size;
    }
  }
  return free;
}

/** As `candidateSubnets`, of the IPv6 half: chosen by itself, as flannel does. */
export function candidateSubnets6(range: Ipv6Range, taken: Iterable<Prefix>): Prefix[] {
  const size = 1n << BigInt(128 - range.subnetLen);
  const last = ipToBigInt(range.subnetMax);
  const spans: { start: bigint; end: bigint }[] = [];
  for (const prefix of taken) {
    if (prefixFamily(prefix) !== 6) continue;
    const start = ipToBigInt(prefixBase(prefix));
    spans.push({ start, end: start + (1n << BigInt(128 - prefixLength(prefix))) });
  }
  spans.sort((x, y) => (x.start < y.start ? -1 : x.start > y.start ? 1 : x.end > y.end ? -1 : 1));
  const free: Prefix[] = [];
  let next = 0;
  for (let base = ipToBigInt(range.subnetMin); base <= last && free.length < CANDIDATES_MAX; ) {
    while ((spans[next]?.end ?? last + size) <= base) next += 1;
    const span = spans[next];
    if (span !== undefined && span.start < base + size) {
      base = ((span.end + size - 1n) / size) * size;
    } else {
      free.push(prefixOf(bigIntToIp(base, 6), range.subnetLen));
      base += size;
    }
  }
  return free;
}

/** As `fitsConfig`, for the IPv6 half. */
export function fitsRange6(range: Ipv6Range, subnet: Prefix): boolean {
  if (prefixFamily(subnet) !== 6 || prefixLength(subnet) !== range.subnetLen) return false;
  const base = ipToBigInt(prefixBase(subnet));
  return base >= ipToBigInt(range.subnetMin) && base <= ipToBigInt(range.subnetMax);
}

/** True if the subnet has the configured length and lies in the range that is leased. */
export function fitsConfig(config: NetworkConfig, subnet: Prefix): boolean {
  if (prefixFamily(subnet) !== 4 || prefixLength(subnet) !== config.subnetLen) return false;
  const base = ipv4ToNumber(prefixBase(subnet) as Ipv4);
  return base >= ipv4ToNumber(config.subnetMin) && base <= ipv4ToNumber(config.subnetMax);
}

/** Addresses from `start` up to, not including, `end`. */
interface Span {
  readonly start: number;
  readonly end: number;
}

/**
 * IPv4 spans by start. Prefixes either nest or are apart, so among equal starts the longest comes first and a later span
 * ends above an earlier one or lies within it.
 */
function sortedSpans(prefixes: Iterable<Prefix>): Span[] {
  const spans: Span[] = [];
  for (const prefix of prefixes) {
    if (prefixFamily(prefix) !== 4) continue;
    const start = ipv4ToNumber(prefixBase(prefix) as Ipv4);
    spans.push({ start, end: start + 2 ** (32 - prefixLength(prefix)) });
  }
  return spans.sort((a, b) => a.start - b.start || b.end - a.end);
}
