/** One thing done to an endpoint, the same to the model and to the real one, and its words for a person. */
import type {
  FdbChange,
  NeighChange,
  NetworkUpdate,
  TablesPatch,
  TablesReplace,
} from '../../../src/dataplane/protocol.ts';
import type { PathError } from '../../model/endpoint.ts';
import type { Virtio } from '../../model/offload.ts';
import { vxlanWords, words } from '../../model/words.ts';
import type { OuterFields } from './model-outer.ts';

export type Change =
  | { readonly method: 'network.update'; readonly params: NetworkUpdate }
  | { readonly method: 'fdb.change'; readonly params: FdbChange }
  | { readonly method: 'neigh.change'; readonly params: NeighChange }
  | { readonly method: 'tables.replace'; readonly params: TablesReplace }
  | { readonly method: 'tables.patch'; readonly params: TablesPatch };

export type Action =
  | { readonly kind: 'tap'; readonly network: string; readonly frame: Buffer; readonly virtio: Virtio }
  | { readonly kind: 'wire'; readonly outer: OuterFields; readonly payload: Buffer }
  /** ICMP errors from the underlay, "too big", all at once. */
  | { readonly kind: 'icmp'; readonly errors: readonly PathError[] }
  | { readonly kind: 'change'; readonly change: Change };

export function actionWords(action: Action): string {
  switch (action.kind) {
    case 'tap':
      return `frame on ${action.network}: ${words(action.frame, action.virtio)}\n      ${action.frame.toString('hex')}`;
    case 'wire': {
      const { source, to, sourcePort, port, tos, checksum, fragments } = action.outer;
      const outer = `${source}:${sourcePort} > ${to}:${port}, tos ${tos}, checksum ${checksum}, fragments ${fragments}`;
      return `datagram ${outer}: ${vxlanWords(action.payload)}\n      ${action.payload.toString('hex')}`;
    }
    case 'icmp':
      return action.errors
        .map(({ source, sourcePort, to, port, payload, mtu }) => {
          const quoted = `${source}:${sourcePort} > ${to}:${port}: ${payload.toString('hex')}`;
          return `ICMP too big, MTU ${mtu}, quoting ${quoted}`;
        })
        .join('\n      ');
    case 'change':
      return `${action.change.method} ${JSON.stringify(action.change.params)}`;
  }
}

export function listWords(actions: readonly Action[]): string {
  return actions.map((action, at) => `  ${at + 1}. ${actionWords(action)}`).join('\n');
}
