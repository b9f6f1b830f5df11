/**
 * flannel's traffic rules as text for `nft -f`: what `pkg/trafficmngr` of flannel writes, in the same order and with the same
 * meaning. Pure.
 *
 * One table a family (`ip`, `ip6`) and not one of family `inet`: NAT in `inet` needs Linux 5.2, and hosts without a vxlan
 * module are often older. Both go into one transaction all the same.
 */
import type { Family } from '../net/ip.ts';
import { type Prefix, prefixFamily } from '../net/prefix.ts';

/** A network of which this host holds a subnet, both of one family. */
export interface RuledNetwork {
  readonly network: Prefix;
  readonly subnet: Prefix;
}

/** Which rules are wanted. */
export interface RuleChoice {
  /** Accept what is forwarded from and to the network. */
  readonly forward: boolean;
  /** Masquerade what leaves the network, and what enters it from outside. */
  readonly masquerade: boolean;
  /** Source ports of masqueraded flows are chosen at random: two flows that start together seldom get the same one then. */
  readonly fullyRandom: boolean;
}

/** Family of a table, as nft calls it. */
export type TableFamily = 'ip' | 'ip6';

/** The mark by which kube-proxy asks for its own masquerading. */
const SKIP_MARK = '0x4000';

const MULTICAST: Readonly<Record<Family, string>> = { 4: '224.0.0.0/4', 6: 'ff00::/8' };

/**
 * Name of the tables of an instance, or of one of its several networks. Both names are letters, digits, dots, dashes and
 * underscores, which nft reads as they are; none has a slash, so no two instances share a table.
 */
export function tableName(instance: string, network?: string): string {
  return network === undefined ? `vtepd-${instance}` : `vtepd-${instance}/${network}`;
}

/** True for the tables of the instance and of all of its networks, whatever their family. */
export function isTableOf(instance: string, table: string): boolean {
  const [, name = ''] = table.split(' ');
  return /^ip6? /.test(table) && (name === tableName(instance) || name.startsWith(`${tableName(instance)}/`));
}

/** The families in which there is something to rule. */
export function ruledFamilies(choice: RuleChoice, networks: readonly RuledNetwork[]): TableFamily[] {
  if (!choice.forward && !choice.masquerade) return [];
  return ([4, 6] as const).filter((family) => ofFamily(networks, family).length > 0).map(tableFamily);
}

/** The whole transaction: each table is made where it is missing, removed with what was in it, and made as it should be. */
export function rulesetText(table: string, choice: RuleChoice, networks: readonly RuledNetwork[]): string {
  return ([4, 6] as const)
    .filter((family) => ruledFamilies(choice, networks).includes(tableFamily(family)))
    .map((family) => tableText(table, choice, family, ofFamily(networks, family)))
    .join('');
}

/** How many rules tables have, as our text or as nft prints them: every line that is no table, chain, hook, comment or brace. */
export function countRules(text: string): number {
  const about = /^(#|(add|delete) table |table |chain |type |\}|$)/;
  return text.split('\n').filter((line) => !about.test(line.trim())).length;
}

function tableText(table: string, choice: RuleChoice, family: Family, networks: readonly RuledNetwork[]): string {
  const name = `${tableFamily(family)} ${table}`;
  return [
    `add table ${name}`,
    `delete table ${name}`,
    `table ${name} {`,
    ...(choice.forward ? chain('forward', 'filter hook forward priority 0', forwardRules(family, networks)) : []),
    ...(choice.masquerade
      ? chain('postrouting', 'nat hook postrouting priority 100', masqueradeRules(family, networks, choice.fullyRandom))
      : []),
    '}',
    '',
  ].join('\n');
}

function chain(name: string, type: string, rules: readonly string[]): string[] {
  return [`  chain ${name} {`, `    type ${type}; policy accept;`, ...rules.map((rule) => `    ${rule}`), '  }'];
}

function forwardRules(family: Family, networks: readonly RuledNetwork[]): string[] {
  const ip = tableFamily(family);
  return networks.flatMap(({ network }) => [`${ip} saddr ${network} accept`, `${ip} daddr ${network} accept`]);
}

function masqueradeRules(family: Family, networks: readonly RuledNetwork[], fullyRandom: boolean): string[] {
  const ip = tableFamily(family);
  const masquerade = fullyRandom ? 'masquerade fully-random' : 'masquerade';
  return [
    `meta mark & ${SKIP_MARK} == ${SKIP_MARK} return`,
    ...networks.flatMap(({ network, subnet }) => [
      `${ip} saddr ${subnet} ${ip} daddr ${network} return`,
      `${ip} saddr ${network} ${ip} daddr ${subnet} return`,
      // What comes from outside to our own containers keeps its source; what we send on to other hosts' does not.
      `${ip} saddr != ${network} ${ip} daddr ${subnet} return`,
      `${ip} saddr ${network} ${ip} daddr != ${MULTICAST[family]} ${masquerade}`,
      `${ip} saddr != ${network} ${ip} daddr ${network} ${masquerade}`,
    ]),
  ];
}

function ofFamily(networks: readonly RuledNetwork[], family: Family): RuledNetwork[] {
  return networks.filter(({ network }) => prefixFamily(network) === family);
}

function tableFamily(family: Family): TableFamily {
  return family === 4 ? 'ip' : 'ip6';
}
