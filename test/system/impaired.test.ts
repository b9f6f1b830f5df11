/** Bulk data over an underlay that loses, doubles and reorders arrives whole, with superframes on all four edges. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Bed, type BedHost, setContainerMtu } from './lib/bed.ts';
import { assertNoChecksumErrors } from './lib/checks.ts';
import { tcpBothWays } from './lib/traffic.ts';
import { VtepdHost } from './lib/vtepd.ts';

const RELAY = fileURLToPath(new URL('programs/relay.mjs', import.meta.url));
const RELAY_ADDRESS = '10.245.1.1';
const PORT = '4789';
const BYTES = 256_000_000;
const seed = Number(process.env.VTEPD_SEED ?? Date.now() % 1_000_000_007);

let bed: Bed;
let a: BedHost;
let b: BedHost;

before(async () => {
  bed = await Bed.create();
  [a, b] = [bed.host('a'), bed.host('b')];
  for (const [host, other] of [
    [a, b],
    [b, a],
  ] as const) {
    const vtepd = await VtepdHost.on(host);
    const word = [
      'link',
      'add',
      'vx0',
      'id',
      '7',
      'local',
      host.ipv4,
      'remote',
      RELAY_ADDRESS,
      'dstport',
      PORT,
      'dev',
      'eth0',
    ];
    await vtepd.cli(...word);
    await host.ns.ip(`addr add ${host.base}/32 dev vx0`, `route add ${other.subnet} via ${other.base} dev vx0 onlink`);
  }
  await setContainerMtu(bed.hosts, 1450);
});
after(() => bed?.destroy());

test(`${BYTES} bytes each way over a relay that loses, doubles and reorders (seed ${seed})`, async (t) => {
  const rates = ['1', '2', '5', String(seed)];
  const relay = bed.underlay.background([process.execPath, RELAY, RELAY_ADDRESS, PORT, a.ipv4, b.ipv4, ...rates]);
  await relay.waitFor(/listening\n/);
  const { caller, server } = await tcpBothWays(a.container, b.container, b.address, BYTES, 240_000);
  assert.equal(caller.sent.bytes, BYTES);
  assert.deepEqual(server.received, caller.sent);
  assert.deepEqual(caller.received, server.sent);
  await assertNoChecksumErrors(a, b);
  await relay.stop();
  const did = JSON.parse(relay.output.replace('listening\n', ''));
  t.diagnostic(`${caller.ms} ms; the relay ${JSON.stringify(did)}`);
  for (const [what, count] of Object.entries(did)) assert.ok(Number(count) > 0, `the relay did its part: ${what}`);
});
