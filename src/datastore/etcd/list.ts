/** Reading keys: one, or all of a range at one revision. */
import type { KeyRange } from './keys.ts';
import { type KeyValue, RangeRequest, type ResponseHeader } from './proto/etcd.ts';
import type { Session } from './session.ts';

/** Keys a page holds: 500 leases are about 150 kB, far below gRPC's usual limit of 4 MB for a message. */
const PAGE = 500n;

/** From which store an answer came. Both never change, or go back, while a cluster lives. */
export interface StoreIdentity {
  readonly clusterId: bigint;
  readonly raftTerm: bigint;
}

export interface Listing {
  /** The store's revision that the keys are of: a watch goes on from the next. */
  readonly revision: bigint;
  readonly identity: StoreIdentity;
  readonly kvs: KeyValue[];
}

/** Every key of the range, page by page, all at the revision of the first page. */
export async function list(session: Session, range: KeyRange, signal: AbortSignal): Promise<Listing> {
  const kvs: KeyValue[] = [];
  let first: ResponseHeader | undefined;
  let key = range.key;
  for (;;) {
    const request = RangeRequest.fromPartial({
      key,
      rangeEnd: range.rangeEnd,
      limit: PAGE,
      revision: first?.revision ?? 0n,
    });
    const page = await session.call(({ kv }) => kv.range.bind(kv), request, signal);
    first ??= page.header;
    kvs.push(...page.kvs);
    const last = page.kvs.at(-1);
    if (!page.more || last === undefined) break;
    key = Buffer.concat([last.key, Buffer.of(0)]);
  }
  return { revision: first?.revision ?? 0n, identity: identityOf(first), kvs };
}

/** One key, or undefined if it is not there. */
export async function getKey(session: Session, key: Buffer, signal: AbortSignal): Promise<KeyValue | undefined> {
  const answer = await session.call(({ kv }) => kv.range.bind(kv), RangeRequest.fromPartial({ key }), signal);
  return answer.kvs[0];
}

export function identityOf(header: ResponseHeader | undefined): StoreIdentity {
  return { clusterId: header?.clusterId ?? 0n, raftTerm: header?.raftTerm ?? 0n };
}

/**
 * True if `now` cannot be the store that `before` was seen of: another cluster, or one set back to an older state. An
 * answer that does not say (a proxy's, with zeros) proves nothing.
 */
export function isOtherStore(before: StoreIdentity, now: StoreIdentity): boolean {
  if (before.clusterId === 0n || now.clusterId === 0n) return false;
  return now.clusterId !== before.clusterId || now.raftTerm < before.raftTerm;
}
