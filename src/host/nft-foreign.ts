/**
 * Who else decides about forwarded packets. A packet must pass every chain on the forward hook: an `accept` in our table
 * ends that table's chain only, and a chain of another table with `policy drop` still drops it (nft(8), "verdict
 * statements"). Docker sets that policy on iptables' FORWARD when it switches forwarding on. Pure.
 */
import type { TableFamily } from './nft-rules.ts';

export interface DroppingChain {
  /** With its family, `ip filter`. */
  readonly table: string;
  readonly name: string;
}

/** Chains on the forward hook with policy drop, from `nft list chains`, that see packets of a family. */
export function droppingChains(text: string, family: TableFamily): DroppingChain[] {
  const found: DroppingChain[] = [];
  let table = '';
  let name = '';
  for (const line of text.split('\n')) {
    table = /^table (\S+ \S+) \{/.exec(line)?.[1] ?? table;
    name = /^\s+chain (\S+) \{/.exec(line)?.[1] ?? name;
    const drops = /^\s+type filter hook forward .*policy drop;/.test(line);
    if (drops && [family, 'inet'].includes(table.split(' ')[0] ?? '')) found.push({ table, name });
  }
  return found;
}

/** True if the table's own rules accept both directions of the network, so that its policy does not matter to us. */
export function acceptsNetwork(table: string, network: string): boolean {
  const lines = table.split('\n').filter((line) => /\baccept\b/.test(line) && line.includes(` ${network} `));
  return lines.some((line) => line.includes('saddr')) && lines.some((line) => line.includes('daddr'));
}

/** As `droppingChains`, of iptables in its legacy variant, which nft does not show: from `iptables-legacy -S`. */
export function legacyDrops(text: string, network: string): boolean {
  const rules = text.split('\n').filter((line) => line.endsWith(' -j ACCEPT'));
  const accepts = (way: '-s' | '-d'): boolean => rules.some((line) => line.includes(` ${way} ${network} `));
  return /^-P FORWARD DROP$/m.test(text) && !(accepts('-s') && accepts('-d'));
}

/** What an operator is told. `legacy` is the program where iptables is not a part of nftables. */
export function dropWarning({ table, name }: DroppingChain, network: string, legacy?: string): string {
  const ours = table === 'ip filter' || table === 'ip6 filter';
  const program = legacy ?? (table.startsWith('ip6') ? 'ip6tables' : 'iptables');
  const remedy = ours
    ? `${program} -I ${name} -s ${network} -j ACCEPT; ${program} -I ${name} -d ${network} -j ACCEPT`
    : `add rules to it that accept ${network} as source and as destination`;
  return `chain ${name} of table ${table} drops forwarded packets that its own rules do not accept, whatever our rules say: containers may not reach other hosts; ${remedy}`;
}
