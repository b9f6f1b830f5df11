/** `vtepd status`: the two processes, the lease, the datastore and the networks on one page. */
import type { ControllerStatus, NetworkStatus } from '../daemon/status-types.ts';
import { DataplaneClient, DataplaneError } from '../dataplane/client.ts';
import type { Hello, NetworkState } from '../dataplane/protocol.ts';
import type { ParsedArguments } from './arguments.ts';
import { type Context, print } from './context.ts';
import { askController } from './controller.ts';
import { EXIT_NOT_RUNNING, EXIT_OK, UsageError } from './errors.ts';
import { duration } from './output.ts';

/** The documented keys of `status --json`. */
interface Status {
  readonly instance: string;
  readonly dataplane: ({ readonly running: true } & Hello) | { readonly running: false };
  readonly controller: ({ readonly running: true } & ControllerStatus) | { readonly running: false };
  readonly networks: readonly NetworkState[];
}

export async function status(context: Context, input: ParsedArguments): Promise<number> {
  if (input.words.length > 0) throw new UsageError(`status takes no words, not ${input.words.join(' ')}`);
  const [plane, controller] = await Promise.all([askDataplane(context), askController(context.paths)]);
  const value: Status = {
    instance: context.paths.instance,
    dataplane: plane === undefined ? { running: false } : { running: true, ...plane.hello },
    controller: controller === undefined ? { running: false } : { running: true, ...controller },
    networks: plane?.networks ?? [],
  };
  print(context, value, describe);
  const orphaned = controller === undefined && value.networks.some((network) => network.spec.owner !== 'hand');
  return plane === undefined || orphaned ? EXIT_NOT_RUNNING : EXIT_OK;
}

async function askDataplane(context: Context): Promise<{ hello: Hello; networks: NetworkState[] } | undefined> {
  let client: DataplaneClient;
  try {
    client = await DataplaneClient.connect(context.paths.socket);
  } catch (error) {
    if (error instanceof DataplaneError && error.code === 'NOT_RUNNING') return undefined;
    throw error;
  }
  try {
    return { hello: await client.hello(), networks: await client.request('network.list', {}) };
  } finally {
    client.close();
  }
}

function describe(value: Status): string {
  const lines = [`instance    ${value.instance}`, `dataplane   ${describeDataplane(value)}`];
  lines.push(...describeController(value.controller, value.networks));
  for (const network of value.networks) lines.push(`network     ${describeNetwork(network)}`);
  if (value.networks.length === 0 && value.dataplane.running) lines.push('network     none');
  return lines.map((line) => `${line}\n`).join('');
}

function describeDataplane({ dataplane }: Status): string {
  if (!dataplane.running) return 'not running';
  const has = Object.entries(dataplane.capabilities).flatMap(([name, on]) => (on ? [name] : []));
  return (
    `running, pid ${dataplane.pid}, version ${dataplane.version}, up ${duration(dataplane.uptime)}, ` +
    `${dataplane.lanes} lane${dataplane.lanes === 1 ? '' : 's'}, uses ${has.length === 0 ? 'no offloads' : has.join(' ')}`
  );
}

function describeController(controller: Status['controller'], networks: readonly NetworkState[]): string[] {
  if (!controller.running) {
    const fed = networks.some((network) => network.spec.owner !== 'hand');
    return [`controller  not running${fed ? ': tables stay as they are until `vtepd run` is started' : ''}`];
  }
  const { plane } = controller;
  const lines = [
    `controller  ${controller.ready ? 'ready' : `starting (${controller.phase})`}, pid ${controller.pid}, since ${controller.started}`,
  ];
  if (plane.deaths > 0) {
    const gap = plane.lastGapMs === null ? '' : `, last gap ${plane.lastGapMs} ms`;
    lines.push(
      `deaths      the dataplane died ${plane.deaths} time${plane.deaths === 1 ? '' : 's'} under this controller${gap}`,
    );
  }
  lines.push(...controller.networks.flatMap(describeJoined));
  for (const warning of controller.warnings) lines.push(`warning     ${warning}`);
  return lines;
}

/** A network as the controller sees it; of several, its name comes first. */
function describeJoined({ name, ready, phase, datastore, lease, leaseLost, peers }: NetworkStatus): string[] {
  const why = datastore.reason === null ? '' : `: ${datastore.reason}`;
  const revision = datastore.revision === null ? '' : `, revision ${datastore.revision}`;
  const lines = name === null ? [] : [`joined      ${name}: ${ready ? 'ready' : `starting (${phase})`}`];
  lines.push(`datastore   ${datastore.source} ${datastore.state} since ${datastore.since}${why}${revision}`);
  for (const bad of datastore.badKeys) lines.push(`bad key     ${bad.key}: ${bad.reason}`);
  if (lease !== null) {
    const { subnet, subnet6, publicIp, publicIpv6, mac, mac6 } = lease;
    const lost = leaseLost === null ? '' : ` LOST: ${leaseLost}`;
    const six = subnet6 === null ? '' : `, ${subnet6} at ${publicIpv6 ?? 'none'}, mac ${mac6 ?? 'none'}`;
    lines.push(`lease       ${subnet} at ${publicIp}, mac ${mac ?? 'none'}${six}${lost}`);
  }
  lines.push(`peers       ${peers}`);
  return lines;
}

function describeNetwork(network: NetworkState): string {
  const { spec } = network;
  const revisions = Object.entries(network.revisions).map(([source, revision]) => `${source} revision ${revision}`);
  const words = [
    spec.layer3 === true ? `${spec.name} layer 3 port ${spec.port}` : `${spec.name} vni ${spec.vni} port ${spec.port}`,
    `local ${spec.local ?? 'any'}`,
    ...(spec.layer3 === true ? [] : [`mac ${network.mac}`]),
    `mtu ${network.mtu}`,
    network.up ? 'up' : 'DOWN',
    `owner ${spec.owner}`,
    ...revisions,
  ];
  return words.join(', ');
}
