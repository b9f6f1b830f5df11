/** What `vtepd monitor` prints of each notification. */
import type { Destination, FdbEvent, Notifications } from '../dataplane/protocol.ts';
import { readDev, WordReader } from './words.ts';

export type EventName = keyof Notifications;

/** The text of one notification; nothing where another notification says the same and more. */
const LINES: { readonly [N in EventName]: (event: Notifications[N]) => string | undefined } = {
  learned: (event) => `learned ${entry(event)}`,
  moved: (event) => `moved ${entry(event)}${event.from === null ? '' : ` from ${event.from}`}`,
  aged: (event) => `aged ${entry(event)}`,
  held: (event) => `held ${entry(event)}${event.from === null ? '' : ` seen at ${event.from}`}, it moves too often`,
  miss: ({ network, layer, key, count }) =>
    `miss ${layer === 'l2' ? `lladdr ${key}` : key} dev ${network}${count === 1 ? '' : ` count ${count}`}`,
  fdb: ({ what, mac, network, destinations, state, source, router }) =>
    [
      `fdb ${what} ${mac} dev ${network}`,
      ...destinations.map(destination),
      ...(router === true ? ['router'] : []),
      `${state} source ${source}`,
    ].join(' '),
  neigh: ({ what, prefix, network, lladdr, source }) =>
    `neigh ${what} ${prefix} dev ${network} lladdr ${lladdr} source ${source}`,
  changed: ({ network, what }) => (what === 'fdb' || what === 'neigh' ? undefined : `network ${network} ${what}`),
  link: ({ network, what, value }) => `link ${network} ${what}${value === '' || value === what ? '' : ` ${value}`}`,
  'offload-disabled': ({ offload, reason }) => `offload ${offload} disabled: ${reason}`,
};

export const EVENT_NAMES = Object.keys(LINES) as readonly EventName[];

export function eventLine<N extends EventName>(name: N, event: Notifications[N]): string | undefined {
  return LINES[name](event);
}

/** Without a network everything is wanted; an offload is of them all. */
export function isAbout(event: Notifications[EventName], network: string | undefined): boolean {
  return network === undefined || !('network' in event) || event.network === network;
}

/** `monitor [dev NAME]`. */
export function parseMonitor(words: readonly string[]): { readonly network: string | undefined } {
  return readDev(new WordReader('monitor', words));
}

function entry({ mac, network, ip }: FdbEvent): string {
  return `${mac} dev ${network} dst ${ip}`;
}

function destination({ ip, port, vni, via }: Destination): string {
  const more = { port, vni, via };
  const words = Object.entries(more).flatMap(([word, value]) =>
    value === null || value === undefined ? [] : [`${word} ${value}`],
  );
  return [`dst ${ip}`, ...words].join(' ');
}
