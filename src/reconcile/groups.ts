/** Names grouped by what they share, and one order for all of them. */

/** Names by what they have in common; almost every group has one member. */
export class Groups<K, M extends string> {
  private readonly groups = new Map<K, Set<M>>();

  add(group: K, member: M): void {
    const members = this.groups.get(group);
    if (members === undefined) this.groups.set(group, new Set([member]));
    else members.add(member);
  }

  remove(group: K, member: M): void {
    const members = this.groups.get(group);
    if (members?.delete(member) && members.size === 0) this.groups.delete(group);
  }

  has(group: K): boolean {
    return this.groups.has(group);
  }

  keys(): IterableIterator<K> {
    return this.groups.keys();
  }

  /** Sorted. */
  members(group: K): M[] {
    return [...(this.groups.get(group) ?? [])].sort(compare);
  }
}

/** The entries of a map by key. */
export function sorted<K extends string, V>(map: ReadonlyMap<K, V>): [K, V][] {
  return [...map].sort(([a], [b]) => compare(a, b));
}

/** By code unit, the same everywhere. */
export function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
