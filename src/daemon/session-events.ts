/** The dataplane's notifications: what the log says of them, and which of them call for action. */
import type { DataplaneClient } from '../dataplane/client.ts';
import type { Notifications } from '../dataplane/protocol.ts';
import type { Logger } from '../observe/log.ts';
import type { Misses } from './misses.ts';

/** All of them. */
const NOTIFICATIONS: { readonly [name in keyof Notifications]: true } = {
  learned: true,
  moved: true,
  aged: true,
  held: true,
  miss: true,
  fdb: true,
  neigh: true,
  changed: true,
  link: true,
  'offload-disabled': true,
};

export interface SessionListener {
  /** Any of them. */
  readonly heard: (notification: string) => void;
  /** True for the network that the datastore feeds. */
  readonly ours: (network: string) => boolean;
  readonly misses: Misses;
  /** Entries or networks by hand came, changed or went. */
  readonly handChanged: () => void;
  /** Our network or its device is not what we made it. */
  readonly deviceChanged: (message: string, event: object) => void;
}

export function sessionEvents(client: DataplaneClient, logger: Logger, listener: SessionListener): void {
  for (const name of Object.keys(NOTIFICATIONS) as (keyof Notifications)[]) client.on(name, () => listener.heard(name));
  client.on('changed', (event) => {
    listener.handChanged();
    if (event.what === 'created' || event.what === 'deleted') listener.misses.forget(event.network);
    if (event.what !== 'deleted' || !listener.ours(event.network)) return;
    listener.deviceChanged('the network was deleted by somebody else and is made again', event);
  });
  client.on('link', (event) => {
    if (event.what === 'bridge-fdb') {
      logger.warn(event, '`bridge fdb add` on the TAP has no effect; use `vtepd fdb add MAC dst VTEP dev NAME`');
      return;
    }
    if (event.what.startsWith('dev-')) {
      logger.warn(event, 'an underlay interface has gone or come back; the dataplane follows it');
      return;
    }
    if (!listener.ours(event.network)) return;
    listener.deviceChanged('the device was changed by somebody else and is put right', event);
  });
  client.on('offload-disabled', (event) => logger.warn(event, 'an offload was given up'));
  client.on('moved', (event) => logger.info(event, 'a learned MAC has moved'));
  client.on('learned', (event) => logger.debug(event, 'learned'));
  client.on('aged', (event) => logger.debug(event, 'aged'));
  client.on('miss', (event) => {
    listener.misses.note(event);
    logger.debug(event, 'miss');
  });
}
