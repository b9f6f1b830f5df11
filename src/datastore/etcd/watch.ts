/**
 * Following a key range without losing an event. A listing at revision R, then a watch from R + 1; when the stream
 * breaks, a new one from the revision after the last event that was delivered. A `created` answer's revision says
 * nothing about delivery and never moves that point. Only when etcd has compacted that revision away, or the store was
 * set back, is the range listed again.
 */
import type { Logger } from 'pino';
import { codeOfAnswer, type EtcdError, etcdError, isPassing } from './errors.ts';
import type { KeyRange } from './keys.ts';
import { identityOf, isOtherStore, type Listing, list, type StoreIdentity } from './list.ts';
import { type Event, WatchCreateRequest, type WatchResponse } from './proto/etcd.ts';
import type { Session } from './session.ts';
import { Backoff, sleep } from './wait.ts';

export type FollowEvent =
  /** Everything there is. `setBack`: the store is not, or no longer, where it was before; revisions start anew. */
  | { readonly type: 'list'; readonly listing: Listing; readonly setBack: boolean }
  /** What happened up to `revision`, in order; with no events it is a sign of progress. */
  | { readonly type: 'events'; readonly revision: bigint; readonly events: readonly Event[] }
  /** etcd has accepted the watch: what is known is up to date again. */
  | { readonly type: 'contact' }
  /** The watch ended, or could not be had. The next try is under way. */
  | { readonly type: 'broken'; readonly error: EtcdError };

/** etcd answers a create request at once; a path that swallows it looks the same as a quiet one after that. */
const CREATED_DEADLINE_MS = 5_000;

const PAUSE_FIRST_MS = 200;
const PAUSE_LAST_MS = 5_000;
/** Pauses where only an operator can help (wrong password, missing right). */
const OPERATOR_FIRST_MS = 5_000;
const OPERATOR_LAST_MS = 60_000;
/** A stream that lived this long was a good one: the pauses start small again. */
const GOOD_STREAM_MS = 5_000;

/** Follows the range until the signal is aborted, which ends the iteration with the signal's reason. */
export async function* follow(
  session: Session,
  range: KeyRange,
  logger: Logger,
  signal: AbortSignal,
): AsyncGenerator<FollowEvent, never> {
  const pauses = new Backoff(PAUSE_FIRST_MS, PAUSE_LAST_MS);
  const operatorPauses = new Backoff(OPERATOR_FIRST_MS, OPERATOR_LAST_MS);
  let at: Position | undefined;
  let listAgain = true;
  for (;;) {
    const started = performance.now();
    try {
      if (at === undefined || listAgain) {
        const listing = await list(session, range, signal);
        const setBack =
          at !== undefined && (isOtherStore(at.identity, listing.identity) || listing.revision + 1n < at.next);
        if (setBack) logger.warn('etcd was set back to an earlier state: everything is read anew');
        yield { type: 'list', listing, setBack };
        at = { next: listing.revision + 1n, identity: listing.identity };
        listAgain = false;
      }
      for await (const response of watchOnce(session, range, at, signal)) {
        at.identity = identityOf(response.header);
        if (response.created) {
          yield { type: 'contact' };
          continue;
        }
        const revision = response.events.at(-1)?.kv?.modRevision ?? response.header?.revision ?? 0n;
        yield { type: 'events', revision, events: response.events };
        if (revision >= at.next) at.next = revision + 1n;
      }
    } catch (error) {
      if (signal.aborted || !isPassing(error)) throw error;
      const reset = performance.now() - started > GOOD_STREAM_MS;
      if (reset) {
        pauses.reset();
        operatorPauses.reset();
      }
      if (error.code === 'COMPACTED' || error.code === 'ROLLED_BACK') {
        logger.info({ reason: error.message }, 'watch cannot go on where it was: listing again');
        listAgain = true;
      } else {
        yield { type: 'broken', error };
      }
      await sleep(error.needsOperator ? operatorPauses.next() : pauses.next(), signal);
    }
  }
}

/** Where a watch goes on, and in which store. */
interface Position {
  next: bigint;
  identity: StoreIdentity;
}

/** One watch stream: `created`, then whole responses (fragments put together) until it ends, always by a throw. */
async function* watchOnce(
  session: Session,
  range: KeyRange,
  at: Position,
  signal: AbortSignal,
): AsyncGenerator<WatchResponse, never> {
  const { connection, metadata, token } = await session.stream(signal);
  const endpoint = connection.endpoint.url;
  const stream = connection.clients.watch.watch(metadata);
  // Failures come out of the iteration below; without a listener one after its end would be an uncaught exception.
  stream.on('error', () => undefined);
  const untrack = connection.track(stream);
  const onAbort = (): void => stream.cancel();
  signal.addEventListener('abort', onAbort, { once: true });
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    stream.cancel();
  }, CREATED_DEADLINE_MS);
  try {
    const create = { ...range, startRevision: at.next, progressNotify: true, prevKv: true, fragment: true };
    stream.write({
      createRequest: WatchCreateRequest.fromPartial(create),
      cancelRequest: undefined,
      progressRequest: undefined,
    });
    let fragments: Event[] = [];
    for await (const response of stream as AsyncIterable<WatchResponse>) {
      clearTimeout(timer);
      if (response.canceled) throw canceled(endpoint, response);
      checkStore(endpoint, at, response);
      if (response.fragment) {
        fragments.push(...response.events);
      } else {
        yield fragments.length === 0 ? response : { ...response, events: [...fragments, ...response.events] };
        fragments = [];
      }
    }
    throw etcdError('UNAVAILABLE', endpoint, 'the watch stream ended');
  } catch (error) {
    signal.throwIfAborted();
    const explained = late ? etcdError('TIMEOUT', endpoint, 'no answer to a watch request') : connection.explain(error);
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

/**
 * Why etcd ended the watch. A watch refused for its token comes as `created` and `canceled` at once, with the reason as
 * text; etcd 3.4 says only "permission denied" there.
 */
function canceled(endpoint: string, response: WatchResponse): EtcdError {
  if (response.compactRevision > 0n) {
    return etcdError('COMPACTED', endpoint, `history before revision ${response.compactRevision} has been compacted`);
  }
  const reason = response.cancelReason || 'the watch was cancelled without a reason';
  const code = codeOfAnswer(-1, reason);
  return etcdError(code === 'PERMISSION_DENIED' ? 'TOKEN_INVALID' : code, endpoint, reason);
}

/** A watch from a revision that the store has not reached would be silent until then: nobody would notice. */
function checkStore(endpoint: string, at: Position, response: WatchResponse): void {
  const revision = response.header?.revision ?? 0n;
  if (isOtherStore(at.identity, identityOf(response.header)) || (response.created && revision + 1n < at.next)) {
    throw etcdError('ROLLED_BACK', endpoint, `the store is at revision ${revision}, the watch was at ${at.next - 1n}`);
  }
}
