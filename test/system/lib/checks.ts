/** Assertions that several system tests make of a pair of hosts. */
import assert from 'node:assert/strict';
import type { BedHost } from './bed.ts';
import { checksumErrors, ping, tcpBothWays, udpEcho } from './traffic.ts';
import type { VtepdHost } from './vtepd.ts';

export async function assertPing(from: BedHost, to: BedHost, count = 5): Promise<void> {
  const result = await ping(from.container, to.address, { count });
  assert.equal(result.received, result.sent, `${from.label} -> ${to.label}:\n${result.text}`);
}

/** Container to container and back over one connection: what arrived is what was sent. */
export async function assertTcp(from: BedHost, to: BedHost, bytes: number): Promise<void> {
  const { caller, server } = await tcpBothWays(from.container, to.container, to.address, bytes);
  assert.equal(caller.sent.bytes, bytes);
  assert.deepEqual(server.received, caller.sent, `${from.label} -> ${to.label}`);
  assert.deepEqual(caller.received, server.sent, `${to.label} -> ${from.label}`);
}

/** Datagrams from one byte up to the full MTU and, in fragments, beyond; none lost, none changed. */
export async function assertUdp(from: BedHost, to: BedHost, mtu: number): Promise<void> {
  const full = mtu - 28;
  const counts = { 1: 2, 100: 50, [full - 1]: 50, [full]: 50, [full + 1]: 20, 8000: 20 };
  for (const [size, tally] of await udpEcho(from.container, to.container, to.address, counts)) {
    assert.deepEqual(
      { ...tally, received: tally.received },
      { ...tally, received: tally.sent, damaged: 0 },
      `${size} bytes`,
    );
  }
}

/** No namespace of these hosts has counted a packet with a wrong checksum. */
export async function assertNoChecksumErrors(...hosts: readonly BedHost[]): Promise<void> {
  assert.deepEqual(await checksumErrors(...hosts.flatMap((host) => [host.ns, host.container])), {});
}

/** A device that comes up says so to multicast groups that nobody has joined; those frames have nowhere to go. */
const EXPECTED_DROPS = new Set(['tx_no_destination', 'tx_nd_unanswered', 'tx_arp_swallowed']);

/** Nothing died but what dies on every device. */
export async function assertNoDrops(vtepd: VtepdHost): Promise<void> {
  const drops = [...(await vtepd.drops())].filter(([reason, count]) => count > 0 && !EXPECTED_DROPS.has(reason));
  assert.deepEqual(drops, [], `host ${vtepd.host.label}`);
}
