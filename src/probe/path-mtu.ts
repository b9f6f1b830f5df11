/**
 * The largest IP packet that gets to a host in one piece, by trying. A router that says by ICMP what fits shortens the search and
 * decides nothing: what it says is tried like any other size, and so is one byte more. Pure but for the clock of its `Echo`.
 */

/** What became of one size. */
export type Verdict =
  | { readonly kind: 'answered'; readonly rttMs: number }
  /** This host's own interface does not take it. */
  | { readonly kind: 'refused' }
  | { readonly kind: 'too-big'; readonly mtu: number }
  | { readonly kind: 'unreachable'; readonly reason: string }
  | { readonly kind: 'silent' };

/** Sends one packet of `size` bytes that may not be fragmented and waits for what comes of it. */
export type Echo = (size: number, timeoutMs: number) => Promise<Verdict>;

export interface SearchOptions {
  /** What every path carries, or as good as: that it is answered says that the peer is there. */
  readonly least: number;
  readonly most: number;
  /** Tried first, where they are still in question: sizes that are met in practice. */
  readonly guesses: readonly number[];
  /** How often a size is sent before silence counts. */
  readonly tries: number;
  /** Longest wait for one answer; once answers came, a multiple of their round trip. */
  readonly timeoutMs: number;
}

export type PathMtu =
  | { readonly answered: false; readonly reason: string | undefined; readonly sent: number }
  | {
      readonly answered: true;
      readonly mtu: number;
      /** What does not let one byte more through. */
      readonly limit: 'interface' | 'path';
      /** Somebody on the path said so by ICMP; if not, nobody finds out without trying. */
      readonly told: boolean;
      readonly rttMs: number;
      readonly sent: number;
      /** Sent and neither answered nor refused. */
      readonly lost: number;
    };

/** A path that changes underway is not followed for ever. */
const MOST_DOUBTS = 3;
const LEAST_WAIT_MS = 200;

export async function searchPathMtu(echo: Echo, options: SearchOptions): Promise<PathMtu> {
  const search = new Search(echo, options);
  return await search.run();
}

class Search {
  readonly #echo: Echo;
  readonly #options: SearchOptions;
  #wait: number;
  #rttMs = Number.POSITIVE_INFINITY;
  #sent = 0;
  #lost = 0;

  constructor(echo: Echo, options: SearchOptions) {
    this.#echo = echo;
    this.#options = options;
    this.#wait = options.timeoutMs;
  }

  async run(): Promise<PathMtu> {
    const { least, most } = this.#options;
    const first = await this.#try(least);
    if (first.kind !== 'answered') return { answered: false, reason: reasonOf(first), sent: this.#sent };
    let low = least;
    let high = most + 1;
    let failure: Verdict = { kind: 'refused' };
    const hints = [...this.#options.guesses];
    for (let doubts = 0; ; ) {
      if (high - low <= 1) {
        // Silence may have been loss: it is asked once more before anybody is told of a small path.
        if (failure.kind !== 'silent' || doubts >= MOST_DOUBTS) break;
        const again = await this.#try(high);
        if (again.kind !== 'answered') {
          failure = again;
          break;
        }
        doubts += 1;
        low = high;
        high = most + 1;
        failure = { kind: 'refused' };
      }
      const hint = hints.findIndex((size) => size > low && size < high);
      const size = hint === -1 ? Math.floor((low + high) / 2) : (hints[hint] ?? low + 1);
      const verdict = await this.#try(size);
      if (verdict.kind === 'answered') {
        low = size;
        continue;
      }
      high = size;
      failure = verdict;
      if (verdict.kind === 'too-big') hints.unshift(verdict.mtu, verdict.mtu + 1);
    }
    const limit = failure.kind === 'refused' ? 'interface' : 'path';
    const told = failure.kind === 'too-big' || limit === 'interface';
    return { answered: true, mtu: low, limit, told, rttMs: this.#rttMs, sent: this.#sent, lost: this.#lost };
  }

  async #try(size: number): Promise<Verdict> {
    let last: Verdict = { kind: 'silent' };
    for (let count = 0; count < this.#options.tries; count++) {
      const verdict = await this.#echo(size, this.#wait);
      if (verdict.kind !== 'refused') this.#sent += 1;
      if (verdict.kind === 'answered') {
        this.#rttMs = Math.min(this.#rttMs, verdict.rttMs);
        // A router between may be busy, but not by a multiple.
        this.#wait = Math.min(this.#options.timeoutMs, Math.max(LEAST_WAIT_MS, verdict.rttMs * 4));
        return verdict;
      }
      if (verdict.kind === 'refused' || verdict.kind === 'too-big') return verdict;
      this.#lost += 1;
      if (verdict.kind === 'unreachable' || last.kind === 'silent') last = verdict;
    }
    return last;
  }
}

function reasonOf(verdict: Verdict): string | undefined {
  if (verdict.kind === 'unreachable') return verdict.reason;
  if (verdict.kind === 'refused') return "this host's interface does not even take the shortest packet";
  return undefined;
}
