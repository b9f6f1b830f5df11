/**
 * `vtepd config check`: what `vtepd run` with the same flags, environment and file would use, and what is wrong with it.
 * Changes nothing and needs no rights but to read.
 */
import type { WrittenWords } from '../config/link-file.ts';
import type { Settings } from '../config/settings.ts';
import { optionProblem, type TunnelOptions } from '../daemon/tunnel.ts';
import type { Lease } from '../datastore/types.ts';
import { type NetworkConfig, parseNetworkConfig } from '../flannel/config.ts';
import { Nft, NftError } from '../host/nft.ts';
import type { ParsedArguments } from './arguments.ts';
import { type Context, print } from './context.ts';
import { EXIT_FAILED, EXIT_OK, UsageError } from './errors.ts';
import { networksOf } from './run-networks.ts';
import { judgeSettings } from './settings.ts';

/** The documented keys of `config check --json`. */
export interface Findings {
  ok: boolean;
  problems: string[];
  warnings: string[];
  /** As they would be used, without the password; null if they cannot be read. */
  settings: object | null;
  networks: NetworkFindings[];
}

export interface NetworkFindings {
  /** Of several; null where there is only one. */
  name: string | null;
  /** Its configuration with all defaults; null if there is none that can be used. */
  config: NetworkConfig | null;
  /** How many hosts the datastore lists. */
  hosts: number | null;
}

export async function configCheck(context: Context, input: ParsedArguments): Promise<number> {
  if (input.words.length > 0) throw new UsageError(`config check takes no words, not ${input.words.join(' ')}`);
  const findings: Findings = { ok: true, problems: [], warnings: [], settings: null, networks: [] };
  const { settings, declared, problems } = judgeSettings(context, input);
  findings.problems.push(...problems);
  if (settings !== undefined) findings.settings = shown(settings);
  if (settings !== undefined && declared !== undefined) {
    const networks = networksOf(settings, context.paths, declared);
    for (const { name = null, settings: own, tunnelOptions } of networks) {
      const network: NetworkFindings = { name, config: null, hosts: null };
      findings.networks.push(network);
      await attempt(findings, () => checkDatastore(own, network, tunnelOptions, findings));
    }
    if (networks.length > 0) await checkRules(settings, findings);
  }
  findings.ok = findings.problems.length === 0;
  print(context, findings, describe);
  return findings.ok ? EXIT_OK : EXIT_FAILED;
}

/** Without the password; what is written in words of `vtepd link add`, as such. */
function shown(settings: Settings): object {
  const { datastore, links, options, networks } = settings;
  const hidden = datastore.type === 'etcd' && datastore.password !== undefined ? { password: '(set)' } : {};
  const line = ({ words }: WrittenWords): string => words.join(' ');
  return {
    ...settings,
    datastore: { ...datastore, ...hidden },
    links: links.map(line),
    options: options.map(line),
    networks: networks.map(({ name, settings: own }) => ({ name, settings: shown(own) })),
  };
}

/** Reads configuration and leases of one network; the leases. */
export async function checkDatastore(
  { datastore }: Settings,
  network: NetworkFindings,
  options: TunnelOptions,
  findings: Pick<Findings, 'problems' | 'warnings'>,
): Promise<Lease[]> {
  const take = (config: NetworkConfig): void => {
    network.config = config;
    const problem = optionProblem(options, config);
    if (problem !== undefined) findings.problems.push(problem);
  };
  if (datastore.type === 'none') return [];
  if (datastore.type === 'file') {
    const { readHosts } = await import('./lease-file.ts');
    const { config, leases } = await readHosts(datastore.path);
    take(config);
    network.hosts = leases.size;
    return [...leases.values()];
  }
  const { EtcdLeases } = await import('./lease-etcd.ts');
  const { leaseOf } = await import('../datastore/etcd/lease-table.ts');
  const etcd = new EtcdLeases(datastore);
  try {
    const text = await etcd.configText();
    if (text === undefined)
      findings.problems.push(
        `etcd has no key ${etcd.configKey}: write the network configuration there, or correct --etcd-prefix`,
      );
    else await attempt(findings, () => take(parseNetworkConfig(text)), `${etcd.configKey}: `);
    const entries = await etcd.entries();
    network.hosts = entries.length;
    // Peers of some versions of flannel drop all hosts for one key that they cannot read.
    const bad = entries.filter(({ problem }) => problem !== undefined);
    findings.warnings.push(...bad.map(({ name, problem }) => `lease ${name} cannot be read: ${problem}`));
    return entries.map(leaseOf).filter((lease) => lease !== undefined);
  } finally {
    etcd.close();
  }
}

export async function checkRules(
  { rules, netns }: Settings,
  findings: Pick<Findings, 'problems' | 'warnings'>,
): Promise<void> {
  if (!rules.forward && !rules.masquerade) return;
  try {
    await new Nft(netns ?? null).tables();
  } catch (error) {
    const found = `traffic rules cannot be set: ${textOf(error)}`;
    // Whoever checks may have fewer rights than `vtepd run` will have.
    const certain = error instanceof NftError && error.code !== 'NFT_FAILED';
    (certain && rules.masquerade ? findings.problems : findings.warnings).push(found);
  }
}

async function attempt(findings: Pick<Findings, 'problems'>, act: () => unknown, where = ''): Promise<void> {
  try {
    await act();
  } catch (error) {
    findings.problems.push(`${where}${textOf(error)}`);
  }
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function describe({ ok, problems, warnings, settings, networks }: Findings): string {
  return [
    ...flat('', { ...settings, networks: undefined }),
    ...networks.flatMap(({ name, config, hosts }) => [
      ...flat(name === null ? '' : `${name}.`, config ?? {}),
      ...(hosts === null ? [] : [row(name === null ? 'hosts' : `${name}.hosts`, String(hosts))]),
    ]),
    ...warnings.map((text) => `warning: ${text}\n`),
    ...problems.map((text) => `problem: ${text}\n`),
    ok ? 'ok\n' : '',
  ].join('');
}

function row(name: string, value: string): string {
  return `${name.padEnd(28)}  ${value}\n`;
}

/** A value's fields, one a line, nested ones by their path. */
function flat(prefix: string, value: object): string[] {
  return Object.entries(value).flatMap(([name, field]: [string, unknown]) => {
    if (field === undefined || field === null) return [];
    if (Array.isArray(field)) return field.length === 0 ? [] : [row(`${prefix}${name}`, field.join(', '))];
    if (typeof field === 'object') return flat(`${prefix}${name}.`, field);
    return [row(`${prefix}${name}`, typeof field === 'string' ? field : JSON.stringify(field))];
  });
}
