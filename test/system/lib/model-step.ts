/** Which actions may go in at once: those whose outcome does not depend on each other, with what the model says of them. */
import { GSO_ECN, GSO_UDP_L4, onTheWire, type Virtio } from '../../model/offload.ts';
import { type Ethernet, ethernetOf, ipOf } from '../../model/packet.ts';
import type { Action } from './model-actions.ts';
import type { Expected, Seen } from './model-compare.ts';
import { LOCAL4, LOCAL6, OFFLOADS_OFF } from './model-rig.ts';

/** Well within what the TAP's queue and the sockets hold. */
const STEP_MAX = 200;

export class Step {
  readonly actions: Action[] = [];
  readonly sent: Expected[] = [];
  readonly frames: Seen[] = [];
  /** ICMP errors to the host. */
  answers = 0;
  /** Networks whose tables changed. */
  readonly taught = new Set<string>();
  mustEnd = false;
  /** A frame is among them that may have got another destination, which somebody may teach. */
  shortcuts = false;
  readonly #macs = new Set<string>();

  learned(network: string, { mac, what }: { mac: string; what: string }): void {
    this.taught.add(network);
    this.#macs.add(mac);
    // Whoever is left behind may no longer be a known peer.
    if (what === 'moved') this.mustEnd = true;
  }

  /** The tables reach the lanes only after the step: nothing in it may look for what it taught. */
  dependsOn(action: Action): boolean {
    if (this.actions.length >= STEP_MAX) return true;
    if (this.taught.size === 0) return false;
    if (isFromUnderlay(action)) return true;
    const ethernet = innerOf(action);
    return ethernet !== undefined && (this.#macs.has(ethernet.source) || this.#macs.has(ethernet.destination));
  }

  /** Others of the step, which may be slower or on another lane, look for the MAC that a datagram comes from, or come from it. */
  preceded(action: Action): boolean {
    const mac = innerOf(action)?.source;
    return this.actions.some((each) => innerOf(each)?.[each.kind === 'tap' ? 'destination' : 'source'] === mac);
  }
}

/** What the endpoint reads from its TAP: without the offload, the kernel cuts superframes before. */
export function handedOver({ frame, virtio }: Action & { kind: 'tap' }): [Buffer, Virtio][] {
  if (virtio.gso === undefined) return [[frame, virtio]];
  const offload = (virtio.gso.kind & ~GSO_ECN) === GSO_UDP_L4 ? 'tap_uso' : 'tap_tso';
  if (!OFFLOADS_OFF.includes(offload)) return [[frame, virtio]];
  return (onTheWire(frame, virtio) ?? []).map((segment) => [segment, {}]);
}

export function isFromUnderlay(action: Action): boolean {
  const source = action.kind === 'tap' ? ipOf(action.frame)?.source : undefined;
  return source === LOCAL4 || source === LOCAL6;
}

export function innerOf(action: Action): Ethernet | undefined {
  if (action.kind === 'change' || action.kind === 'icmp') return undefined;
  return ethernetOf(action.kind === 'tap' ? action.frame : action.payload.subarray(8));
}
