/**
 * The only writes there are: each a transaction that holds one key to what we know of it, so that nothing another host
 * has written is ever overwritten or deleted.
 */
import { Compare, Compare_CompareResult, Compare_CompareTarget, RequestOp, TxnRequest } from './proto/etcd.ts';
import type { Session } from './session.ts';

/** Revision of the write, or undefined if the key was not as expected and nothing was written. */
export type Written = bigint | undefined;

export function createKey(
  session: Session,
  key: Buffer,
  value: string,
  etcdLease: bigint,
  signal: AbortSignal,
): Promise<Written> {
  const absent = { target: Compare_CompareTarget.VERSION, version: 0n };
  return commit(session, key, absent, putOp(key, value, etcdLease), signal);
}

export function replaceKey(
  session: Session,
  key: Buffer,
  modRevision: bigint,
  value: string,
  etcdLease: bigint,
  signal: AbortSignal,
): Promise<Written> {
  const unchanged = { target: Compare_CompareTarget.MOD, modRevision };
  return commit(session, key, unchanged, putOp(key, value, etcdLease), signal);
}

export function deleteKey(session: Session, key: Buffer, modRevision: bigint, signal: AbortSignal): Promise<Written> {
  const unchanged = { target: Compare_CompareTarget.MOD, modRevision };
  return commit(session, key, unchanged, RequestOp.fromPartial({ requestDeleteRange: { key } }), signal);
}

function putOp(key: Buffer, value: string, lease: bigint): RequestOp {
  return RequestOp.fromPartial({ requestPut: { key, value: Buffer.from(value), lease } });
}

async function commit(
  session: Session,
  key: Buffer,
  expected: Partial<Compare>,
  operation: RequestOp,
  signal: AbortSignal,
): Promise<Written> {
  const compare = Compare.fromPartial({ result: Compare_CompareResult.EQUAL, key, ...expected });
  const request = TxnRequest.fromPartial({ compare: [compare], success: [operation] });
  const answer = await session.call(({ kv }) => kv.txn.bind(kv), request, signal);
  return answer.succeeded ? (answer.header?.revision ?? 0n) : undefined;
}
