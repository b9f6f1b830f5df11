/**
 * Keeps the traffic rules in place: applied when they change, looked at every few seconds and put back when somebody has
 * changed or removed them (flanneld does the same with iptables; `nft flush ruleset` of a firewall's restart is the usual
 * cause). What cannot be applied is tried again with the next look; `warnings` says what is wrong at the moment.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { prefixFamily } from '../net/prefix.ts';
import type { Logger } from '../observe/log.ts';
import type { Nft } from './nft.ts';
import { acceptsNetwork, droppingChains, dropWarning, legacyDrops } from './nft-foreign.ts';
import {
  countRules,
  type RuleChoice,
  type RuledNetwork,
  ruledFamilies,
  rulesetText,
  type TableFamily,
} from './nft-rules.ts';

export interface RulesOptions {
  readonly nft: Nft;
  /** Of our tables, one a family. */
  readonly table: string;
  readonly choice: RuleChoice;
  readonly resyncSeconds: number;
  readonly logger: Logger;
}

/** Looks at our own tables for one at everybody's: others' firewalls change seldom, and may be long. */
const AROUND_EVERY = 3;

const CHANGED = 'our traffic rules were changed or removed by somebody';

/** Our tables as nft showed them when they were right, by family. */
type Shown = ReadonlyMap<TableFamily, string>;

export class RulesKeeper {
  readonly #options: RulesOptions;
  readonly #logger: Logger;
  #networks: readonly RuledNetwork[] | undefined;
  #looks = 0;
  #shown: Shown | undefined;
  /** They were in place once. */
  #applied = false;
  #failure: string | undefined;
  #foreign: readonly string[] = [];
  /** Ends when the job before the next one has ended: two transactions from two readings would undo each other. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(options: RulesOptions) {
    this.#options = options;
    this.#logger = options.logger;
  }

  /** True if addresses that leave the network are masqueraded by us: what FLANNEL_IPMASQ tells the container runtime. */
  get masquerades(): boolean {
    return this.#options.choice.masquerade;
  }

  /** What is wrong with the rules at the moment. */
  get warnings(): readonly string[] {
    return [...(this.#failure === undefined ? [] : [this.#failure]), ...this.#foreign];
  }

  /**
   * Applies the rules for these networks and keeps them from now on. Rejects only the first time, if masquerading was asked
   * for and cannot be had: subnet.env would tell a lie. Without forward rules most hosts work as well, so that is a
   * warning; and so is whatever goes wrong later, because traffic goes on by the rules that are there.
   */
  async keep(networks: readonly RuledNetwork[]): Promise<void> {
    this.#networks = networks;
    try {
      await this.#inTurn(() => this.#apply(networks));
    } catch (error) {
      this.#failed(error);
      if (this.#options.choice.masquerade && !this.#applied) throw error;
    }
  }

  /** Looks after the rules until `signal` aborts. */
  async run(signal: AbortSignal): Promise<void> {
    for (;;) {
      await sleep(this.#options.resyncSeconds * 1_000, undefined, { signal }).catch(() => undefined);
      if (signal.aborted) return;
      try {
        await this.#inTurn(() => this.#look(this.#networks ?? []));
      } catch (error) {
        this.#failed(error);
      }
    }
  }

  #inTurn(job: () => Promise<void>): Promise<void> {
    const result = this.#last.then(job);
    this.#last = result.catch(() => undefined);
    return result;
  }

  async #look(networks: readonly RuledNetwork[]): Promise<void> {
    const { choice, table } = this.#options;
    if (ruledFamilies(choice, networks).length === 0 && this.#failure === undefined) return;
    if (this.#shown !== undefined) {
      const now = await this.#show(networks);
      const changed = [...this.#shown].filter(([family, text]) => now.get(family) !== text).map(([family]) => family);
      if (changed.length === 0) {
        this.#looks += 1;
        if (this.#looks % AROUND_EVERY === 0) await this.#lookAround(networks);
        return;
      }
      const what = changed.map((family) => `${family} ${table}`);
      this.#logger.warn({ tables: what }, `${CHANGED} and are put back`);
    }
    await this.#apply(networks);
  }

  async #apply(networks: readonly RuledNetwork[]): Promise<void> {
    const { nft, table, choice } = this.#options;
    const families = ruledFamilies(choice, networks);
    const there = await nft.tables();
    const surplus = (['ip', 'ip6'] as const)
      .filter((family) => !families.includes(family) && there.includes(`${family} ${table}`))
      .map((family) => `delete table ${family} ${table}\n`);
    const text = [...surplus, rulesetText(table, choice, networks)].join('');
    if (text !== '') await nft.apply(text);
    if (families.length > 0) this.#logger.info({ table, families, ...choice }, 'traffic rules applied');
    const shown = await this.#show(networks);
    // Who changes them before they are read must not become the one who is right.
    const whole = countRules([...shown.values()].join('\n')) === countRules(text);
    if (!whole) this.#logger.warn({ table }, `${CHANGED} at once; the next look puts them back`);
    this.#shown = whole ? shown : undefined;
    this.#applied = true;
    this.#failure = undefined;
    await this.#lookAround(networks);
  }

  async #show(networks: readonly RuledNetwork[]): Promise<Map<TableFamily, string>> {
    const { nft, table, choice } = this.#options;
    const shown = new Map<TableFamily, string>();
    for (const family of ruledFamilies(choice, networks)) {
      shown.set(family, (await nft.table(`${family} ${table}`)) ?? '');
    }
    return shown;
  }

  /** Chains of others that drop what our forward rules accept. */
  async #lookAround(networks: readonly RuledNetwork[]): Promise<void> {
    const { nft, choice } = this.#options;
    if (!choice.forward) return;
    const found: string[] = [];
    const chains = await nft.chains();
    for (const { network } of networks) {
      const family = prefixFamily(network) === 4 ? 'ip' : 'ip6';
      for (const chain of droppingChains(chains, family)) {
        const rules = (await nft.table(chain.table)) ?? '';
        if (!acceptsNetwork(rules, network)) found.push(dropWarning(chain, network));
      }
      const legacy = await nft.legacyIptables(family);
      if (legacy !== undefined && legacyDrops(legacy.rules, network)) {
        found.push(dropWarning({ table: `${family} filter`, name: 'FORWARD' }, network, legacy.program));
      }
    }
    for (const warning of found) if (!this.#foreign.includes(warning)) this.#logger.warn(warning);
    this.#foreign = found;
  }

  #failed(error: unknown): void {
    const { choice } = this.#options;
    // With nothing to apply, a host without nft, or a kernel without nf_tables, has no tables of ours either.
    if (!choice.forward && !choice.masquerade) return;
    const why = error instanceof Error ? error.message : String(error);
    const without = choice.masquerade ? 'containers do not reach the world outside' : 'a firewall may stop forwarding';
    const failure = `traffic rules are not in place, ${without}: ${why}`;
    if (failure !== this.#failure) this.#logger.warn({ err: error }, failure);
    this.#failure = failure;
    this.#shown = undefined;
  }
}

/** Removes the tables that `which` says yes to; gives what was removed. */
export async function removeTables(nft: Nft, which: (table: string) => boolean): Promise<string[]> {
  const surplus = (await nft.tables()).filter(which);
  if (surplus.length > 0) await nft.apply(surplus.map((name) => `delete table ${name}\n`).join(''));
  return surplus;
}
