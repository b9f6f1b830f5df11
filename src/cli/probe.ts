/** `vtepd probe PEER`: the path MTU to a peer, measured by ICMP echo that may not be fragmented; once or on a timer. */
import { setTimeout as pause } from 'node:timers/promises';
import { checkDeviceName } from '../config/device-name.ts';
import { DataplaneClient } from '../dataplane/client.ts';
import { DataplaneError } from '../dataplane/errors.ts';
import { familyOf, type Ip, parseIp } from '../net/ip.ts';
import { EchoSocket, loadRawSocket } from '../probe/echo-socket.ts';
import { leastSize, mostSize } from '../probe/icmp.ts';
import { searchPathMtu } from '../probe/path-mtu.ts';
import { optionValue, type ParsedArguments } from './arguments.ts';
import { type Context, print } from './context.ts';
import { CommandError, EXIT_FAILED, EXIT_OK, UsageError } from './errors.ts';
import { describeProbe, FLOOR, probeRow, type Sender } from './probe-report.ts';
import { Once, WordReader } from './words.ts';

/** Shortest echo: 56 bytes of data, what ping(8) sends. */
const DATA = 56;
const ETHERNET_MTU = 1_500;
const DEFAULT_TRIES = 3;
const DEFAULT_TIMEOUT_MS = 1_000;
const LONGEST_INTERVAL_S = 86_400;

export async function probe(context: Context, input: ParsedArguments): Promise<number> {
  const { peer, network } = parseProbe(input.words);
  const interval = numberOption(input, 'interval', 1, LONGEST_INTERVAL_S);
  const tries = numberOption(input, 'tries', 1, 20) ?? DEFAULT_TRIES;
  const timeoutMs = numberOption(input, 'timeout', 10, 60_000) ?? DEFAULT_TIMEOUT_MS;
  const raw = loadRawSocket();
  const stop = new AbortController();
  if (interval !== undefined)
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => stop.abort());
  for (;;) {
    const { senders, dev, underlayMtu } = await surroundings(context, peer, network);
    const socket = new EchoSocket(raw, peer, dev);
    const family = familyOf(peer);
    try {
      const found = await searchPathMtu(socket.echo, {
        least: leastSize(family) + DATA,
        most: mostSize(family),
        guesses: [underlayMtu, underlayMtu + 1, FLOOR[family]],
        tries,
        timeoutMs,
      });
      print(context, probeRow(peer, found, senders), describeProbe);
      if (interval === undefined) return found.answered ? EXIT_OK : EXIT_FAILED;
    } finally {
      socket.close();
    }
    await pause(interval * 1_000, undefined, { signal: stop.signal }).catch(() => undefined);
    if (stop.signal.aborted) return EXIT_OK;
  }
}

/** `probe PEER [dev NAME]`. */
export function parseProbe(words: readonly string[]): { readonly peer: Ip; readonly network: string | undefined } {
  const reader = new WordReader('probe', words);
  const peer = new Once<Ip>(reader, 'the peer');
  const dev = new Once<string>(reader, 'dev');
  while (!reader.done) {
    const word = reader.next();
    if (word === 'dev') dev.set(reader.parsed(word, 'a network', checkDeviceName));
    else peer.set(readPeer(reader, word));
  }
  if (peer.value === undefined) throw reader.refuse("a peer's underlay address is needed: vtepd probe PEER");
  return { peer: peer.value, network: dev.value };
}

function readPeer(reader: WordReader, word: string): Ip {
  try {
    return parseIp(word);
  } catch (error) {
    throw reader.refuse(error instanceof Error ? error.message : String(error));
  }
}

function numberOption(input: ParsedArguments, name: string, low: number, high: number): number | undefined {
  const text = optionValue(input, name);
  if (text === undefined) return undefined;
  const value = /^[0-9]{1,6}$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= low && value <= high))
    throw new UsageError(`probe: --${name} ${text}: must be a number from ${low} to ${high}`);
  return value;
}

interface Surroundings {
  /** The networks that send to the peer, or the one that was named. */
  readonly senders: readonly Sender[];
  /** The only interface to send by. */
  readonly dev: string | null;
  readonly underlayMtu: number;
}

/** What the dataplane knows; none has to run for a path to be measured. */
async function surroundings(context: Context, peer: Ip, network: string | undefined): Promise<Surroundings> {
  let client: DataplaneClient;
  try {
    client = await DataplaneClient.connect(context.paths.socket);
  } catch (error) {
    const alone = error instanceof DataplaneError && error.code === 'NOT_RUNNING' && network === undefined;
    if (!alone) throw error;
    return { senders: [], dev: null, underlayMtu: ETHERNET_MTU };
  }
  try {
    await client.hello();
    const [states, stats, facts] = await Promise.all([
      client.request('network.list', {}),
      client.request('stats', {}),
      client.request('host.read', { netns: null }),
    ]);
    const about = stats.peers.filter(({ ip }) => ip === peer);
    const wanted = states.filter(({ spec }) =>
      network === undefined ? about.some((each) => each.network === spec.name) : spec.name === network,
    );
    if (network !== undefined && wanted.length === 0)
      throw new CommandError(
        'ENOENT',
        `no network ${network}: held are ${states.map(({ spec }) => spec.name).join(', ')}`,
      );
    const devs = new Set(wanted.map(({ spec }) => spec.dev ?? null));
    const [dev = null] = devs.size === 1 ? devs : [];
    const out = dev ?? (await routeTo(client, peer));
    const underlayMtu = facts.links.find(({ name }) => name === out)?.mtu ?? ETHERNET_MTU;
    const senders = wanted.map((state) => ({ state, stats: about.find((each) => each.network === state.spec.name) }));
    return { senders, dev, underlayMtu };
  } finally {
    client.close();
  }
}

async function routeTo(client: DataplaneClient, to: Ip): Promise<string | null> {
  try {
    return (await client.request('host.route_get', { to, netns: null })).dev;
  } catch {
    // Sending will say why there is no way.
    return null;
  }
}
