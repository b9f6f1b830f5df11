/**
 * etcd leases: what makes a key vanish some time after its host did. Their life is measured on our own monotonic clock
 * from before the request was sent, so that we never think a lease alive that etcd has already ended.
 */
import { EtcdError, etcdError } from './errors.ts';
import { LeaseGrantRequest, type LeaseKeepAliveResponse, LeaseTimeToLiveRequest } from './proto/etcd.ts';
import type { Session } from './session.ts';

export interface EtcdLease {
  readonly id: bigint;
  readonly ttlSeconds: number;
  /** On the clock of `performance.now()`. */
  readonly renewedAt: number;
}

/** The lease of a reservation: none. */
export const NO_LEASE: EtcdLease = { id: 0n, ttlSeconds: 0, renewedAt: 0 };

const KEEP_ALIVE_DEADLINE_MS = 5_000;

export function expiryOf(lease: EtcdLease): number {
  return lease.id === 0n ? Number.POSITIVE_INFINITY : lease.renewedAt + lease.ttlSeconds * 1000;
}

/**
 * When the lease is to be kept alive: after a third of its life, so that two tries may fail; or when `marginMinutes` of
 * its life remain, if that is sooner, as flanneld's --subnet-lease-renew-margin says. A margin that the whole life does
 * not reach cannot be kept and does not count.
 */
export function renewalOf(lease: EtcdLease, marginMinutes: number): number {
  if (lease.id === 0n) return Number.POSITIVE_INFINITY;
  const third = lease.ttlSeconds / 3;
  const untilMargin = lease.ttlSeconds - marginMinutes * 60;
  return lease.renewedAt + (untilMargin > 0 ? Math.min(third, untilMargin) : third) * 1000;
}

export async function grantLease(session: Session, ttlSeconds: number, signal: AbortSignal): Promise<EtcdLease> {
  const renewedAt = performance.now();
  const request = LeaseGrantRequest.fromPartial({ TTL: BigInt(ttlSeconds) });
  const answer = await session.call(({ lease }) => lease.leaseGrant.bind(lease), request, signal);
  if (answer.error !== '') throw etcdError('UNEXPECTED', session.endpoint, `no lease: ${answer.error}`);
  return { id: answer.ID, ttlSeconds: Number(answer.TTL), renewedAt };
}

/** Lengthens the lease's life; undefined if etcd no longer knows it. */
export async function keepAlive(session: Session, id: bigint, signal: AbortSignal): Promise<EtcdLease | undefined> {
  const renewedAt = performance.now();
  const answer = await exchangeKeepAlive(session, id, signal);
  const ttlSeconds = Number(answer.TTL);
  return ttlSeconds > 0 ? { id, ttlSeconds, renewedAt } : undefined;
}

/** True if the lease lives, was granted for `ttlSeconds` and holds that key alone: it is as good as a new one. */
export async function isReusable(
  session: Session,
  id: bigint,
  ttlSeconds: number,
  key: Buffer,
  signal: AbortSignal,
): Promise<boolean> {
  try {
    const request = LeaseTimeToLiveRequest.fromPartial({ ID: id, keys: true });
    const answer = await session.call(({ lease }) => lease.leaseTimeToLive.bind(lease), request, signal);
    const [only] = answer.keys;
    return (
      answer.TTL > 0n &&
      Number(answer.grantedTTL) === ttlSeconds &&
      answer.keys.length === 1 &&
      only?.equals(key) === true
    );
  } catch (error) {
    // Without the right to every key of a lease etcd does not list them: then it is not only ours.
    if (error instanceof EtcdError && (error.code === 'PERMISSION_DENIED' || error.code === 'LEASE_NOT_FOUND'))
      return false;
    throw error;
  }
}

/**
 * One request and one answer on a stream of its own. etcd has no unary form; and the next keep-alive is hours away, a
 * stream held open for it would only be one more thing to break.
 */
async function exchangeKeepAlive(session: Session, id: bigint, signal: AbortSignal): Promise<LeaseKeepAliveResponse> {
  const { connection, metadata, token } = await session.stream(signal);
  const endpoint = connection.endpoint.url;
  const stream = connection.clients.lease.leaseKeepAlive(metadata);
  stream.on('error', () => undefined);
  const untrack = connection.track(stream);
  const onAbort = (): void => stream.cancel();
  signal.addEventListener('abort', onAbort, { once: true });
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    stream.cancel();
  }, KEEP_ALIVE_DEADLINE_MS);
  try {
    stream.write({ ID: id });
    for await (const response of stream as AsyncIterable<LeaseKeepAliveResponse>) return response;
    throw etcdError('UNAVAILABLE', endpoint, 'the keep-alive stream ended');
  } catch (error) {
    signal.throwIfAborted();
    const explained = late
      ? etcdError('TIMEOUT', endpoint, 'no answer to a lease keep-alive')
      : connection.explain(error);
    session.refused(token, explained);
    session.failed(connection, explained);
    throw explained;
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', onAbort);
    untrack();
    stream.cancel();
  }
}
