/**
 * Peers that were sent to and never answered: what a firewall looks like, or a port that something else eats (VMware NSX takes
 * 8472). Traffic may well be one-way for a moment, so a few frames prove nothing.
 */
import type { PeerStats } from '../dataplane/protocol.ts';

/** TCP tries seven times in two minutes; a ping of some seconds is as many. */
const ENOUGH_FRAMES = 5;
/** Peers that a message spells out. */
const NAMED = 5;

export function silentPeers(peers: readonly PeerStats[]): PeerStats[] {
  return peers.filter(
    ({ tx, last_heard: heard }) => tx.packets >= ENOUGH_FRAMES && (heard === null || heard === undefined),
  );
}

/** The warning about them; undefined where there is none. */
export function silenceWarning(peers: readonly PeerStats[], port: number | null): string | undefined {
  const silent = silentPeers(peers);
  if (silent.length === 0) return undefined;
  const some = silent.slice(0, NAMED).map(({ ip }) => ip);
  const more = silent.length > NAMED ? ` and ${silent.length - NAMED} more` : '';
  return (
    `sent to ${some.join(', ')}${more} and never heard from ${silent.length === 1 ? 'it' : 'them'}: is vtepd or flanneld running there, ` +
    `and does UDP port ${port ?? ''} pass in both directions (firewalls; VMware NSX takes 8472)?`
  );
}
