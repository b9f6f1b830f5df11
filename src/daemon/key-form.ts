/**
 * Keys of the other form: flannel wedges for good on a dual-stack key in an IPv4 network (facts of flannel's, both old and
 * new), and the other way round its hosts do not see each other. That is what a rolling change of EnableIPv6 looks like, so
 * it is said aloud, once for all keys.
 */
import type { DatastoreEvent, Lease } from '../datastore/types.ts';

/** Keys that the message spells out. */
const KEYS_NAMED = 5;

export class KeyForm {
  readonly #dual: boolean;
  readonly #others = new Set<string>();

  /** `dual`: the network's configuration has EnableIPv6. */
  constructor(dual: boolean) {
    this.#dual = dual;
  }

  /** Takes an event; the warning that holds now. */
  apply(event: DatastoreEvent): string | undefined {
    if (event.type === 'snapshot') {
      this.#others.clear();
      for (const lease of event.leases) this.#judge(lease);
    } else if (event.type === 'changes') {
      for (const change of event.changes) {
        if (change.type === 'delete') this.#others.delete(change.key);
        else this.#judge(change.lease);
      }
    }
    return this.#message();
  }

  #judge({ key, subnet6 }: Lease): void {
    if ((subnet6 !== undefined) === this.#dual) this.#others.delete(key);
    else this.#others.add(key);
  }

  #message(): string | undefined {
    if (this.#others.size === 0) return undefined;
    const named = [...this.#others].slice(0, KEYS_NAMED).join(', ');
    const more = this.#others.size > KEYS_NAMED ? ` and ${this.#others.size - KEYS_NAMED} more` : '';
    return this.#dual
      ? `leases ${named}${more} have no IPv6 subnet although the network has EnableIPv6: their hosts run on the old configuration, restart them; flanneld there stops following changes while dual-stack keys exist`
      : `leases ${named}${more} have an IPv6 subnet although the network has no EnableIPv6: every flanneld in it stops following changes for good; delete these keys, then restart flanneld on all hosts`;
  }
}
