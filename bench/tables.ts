/**
 * `npm run bench -- tables`: what large tables cost a real dataplane, by its control socket: time and memory of 100,000 FDB entries, of a
 * patch on them, and of a flood to 10 and to 1,000 destinations. Lookups by table size are `cargo bench --bench lookup`.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { DataplaneClient } from '../src/dataplane/client.ts';
import type { FdbEntry, Stats } from '../src/dataplane/protocol.ts';
import { ip, run } from './bed/exec.ts';
import { makeDirectory, PREFIX, removeLeftovers } from './bed/leftovers.ts';
import { DEFAULT_DATAPLANE } from './systems/vtepd.ts';

const NETWORK = 'vx0';
const ENTRIES = [10, 100_000] as const;
const DESTINATIONS = [10, 1_000] as const;
const PEERS = 1_000;
const WINDOW_MS = 3_000;
const SOURCE = 'etcd';

const NOBODY = '00:00:00:00:00:00';
const ANSWER_MS = { timeoutMs: 120_000 };

function peer(number: number): string {
  return `10.245.${1 + (number >> 8)}.${number & 255}`;
}

function entry(number: number): FdbEntry {
  const mac = `02:00:${number
    .toString(16)
    .padStart(8, '0')
    .replace(/..(?=.)/g, '$&:')}`;
  return { mac, destinations: [{ ip: peer(number % PEERS) }], state: 'permanent' };
}

interface Row {
  readonly what: string;
  readonly value: string;
}

async function timed<T>(act: () => Promise<T>): Promise<[number, T]> {
  const began = performance.now();
  const result = await act();
  return [performance.now() - began, result];
}

async function residentMib(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1]) / 1024;
}

/** As many broadcasts as a socket takes, for a while. */
const BROADCASTS = `
const socket = require('node:dgram').createSocket('udp4');
const frame = Buffer.alloc(1000);
const until = Date.now() + ${WINDOW_MS + 500};
socket.bind(0, () => {
  socket.setBroadcast(true);
  const more = () => {
    if (Date.now() > until) return process.exit(0);
    for (let each = 0; each < 64; each += 1) socket.send(frame, 9, '10.246.255.255');
    setImmediate(more);
  };
  more();
});`;

async function flood(client: DataplaneClient, netns: string, destinations: number): Promise<Row[]> {
  const entries = [
    { ...entry(0), mac: NOBODY, destinations: Array.from({ length: destinations }, (_, at) => ({ ip: peer(at) })) },
  ];
  const tables = { network: NETWORK, source: SOURCE, neighbours: [], peers: [] };
  await client.request('tables.replace', { ...tables, revision: 100 + destinations, fdb: entries });
  const sender = spawn('ip', ['netns', 'exec', netns, process.execPath, '-e', BROADCASTS], { stdio: 'ignore' });
  const ended = once(sender, 'exit');
  await sleep(300);
  const [before, began] = [await client.request('stats', {}), performance.now()];
  await sleep(WINDOW_MS);
  const [after, seconds] = [await client.request('stats', {}), (performance.now() - began) / 1_000];
  await ended;
  const sum = (stats: Stats, pick: (lane: Stats['lanes'][number]) => number): number =>
    stats.lanes.map(pick).reduce((total, value) => total + value, 0);
  const moved = (pick: (lane: Stats['lanes'][number]) => number): number => sum(after, pick) - sum(before, pick);
  const sent = moved((lane) => lane.tx.packets);
  return [
    {
      what: `flood to ${destinations} destinations`,
      value: `${Math.round(moved((lane) => lane.tap_reads) / seconds)} frames/s, ${Math.round(sent / seconds)} datagrams/s, ${((moved((lane) => lane.busy_us) * 1_000) / sent).toFixed(0)} ns of a lane for each datagram`,
    },
  ];
}

async function measure(client: DataplaneClient, pid: number, netns: string): Promise<Row[]> {
  const rows: Row[] = [];
  const tables = { network: NETWORK, source: SOURCE, neighbours: [], peers: [] };
  for (const [at, count] of ENTRIES.entries()) {
    const before = await residentMib(pid);
    const fdb = Array.from({ length: count }, (_, number) => entry(number));
    const whole = { ...tables, fdb };
    const revision = at * 10 + 1;
    const [replace] = await timed(() => client.request('tables.replace', { ...whole, revision }, ANSWER_MS));
    const [again] = await timed(() =>
      client.request('tables.replace', { ...whole, revision: revision + 1 }, ANSWER_MS),
    );
    const changed = { ...entry(7), destinations: [{ ip: peer(999) }] };
    const nothing = { neighbours_set: [], neighbours_remove: [], peers_add: [], peers_remove: [] };
    const times: number[] = [];
    for (let turn = 0; turn < 20; turn += 1) {
      const fdb_set = [turn % 2 === 0 ? changed : entry(7)];
      const base = revision + 1 + turn;
      const patch = { network: NETWORK, source: SOURCE, base, revision: base + 1, fdb_set, fdb_remove: [], ...nothing };
      times.push((await timed(() => client.request('tables.patch', patch, ANSWER_MS)))[0]);
    }
    const median = times.sort((a, b) => a - b)[10] ?? 0;
    rows.push(
      {
        what: `tables.replace, ${count} entries`,
        value: `${replace.toFixed(1)} ms; the same again ${again.toFixed(1)} ms`,
      },
      { what: `tables.patch, one entry of ${count}`, value: `${median.toFixed(2)} ms (median of 20)` },
      {
        what: `resident memory with ${count} entries`,
        value: `${(await residentMib(pid)).toFixed(1)} MiB, before ${before.toFixed(1)} MiB`,
      },
    );
  }
  for (const destinations of DESTINATIONS) rows.push(...(await flood(client, netns, destinations)));
  return rows;
}

await removeLeftovers();
const dir = await makeDirectory();
const netns = `${PREFIX}scale`;
const socket = join(dir, 'scale.sock');
await run('ip', ['netns', 'add', netns]);
const dataplane = spawn('ip', ['netns', 'exec', netns, DEFAULT_DATAPLANE, '--socket', socket, '--lanes', '1'], {
  stdio: 'ignore',
});
const dataplaneEnded = once(dataplane, 'exit');
try {
  // What is sent crosses a veth to a device that has no use for it.
  const veth = 'link add und0 arp off type veth peer name sink0';
  await ip(netns, veth, 'addr add 10.245.0.1/16 dev und0', 'link set und0 up', 'link set sink0 up');
  let client: DataplaneClient | undefined;
  for (const until = performance.now() + 5_000; client === undefined; await sleep(20)) {
    client = await DataplaneClient.connect(socket).catch((error: unknown) => {
      if (performance.now() > until) throw error;
      return undefined;
    });
  }
  const { pid } = await client.hello();
  await client.request('network.create', {
    name: NETWORK,
    vni: 2,
    owner: 'etcd',
    netns: null,
    local: '10.245.0.1',
    port: 4789,
    dev: 'und0',
    remote: null,
    mac: null,
    mtu: null,
    proxy: false,
    learning: false,
    peersonly: false,
    ageing: 0,
    maxaddress: 0,
  });
  await ip(netns, `addr add 10.246.0.1/16 broadcast 10.246.255.255 dev ${NETWORK}`, `link set ${NETWORK} up`);
  const rows = await measure(client, pid, netns);
  client.close();
  for (const { what, value } of rows) console.log(`${what.padEnd(40)}${value}`);
} finally {
  dataplane.kill('SIGTERM');
  await dataplaneEnded;
  await run('ip', ['netns', 'del', netns]);
  await rm(dir, { recursive: true, force: true });
}
