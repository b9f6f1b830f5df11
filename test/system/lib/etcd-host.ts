/** A host as the datastore sees it: its own EtcdDatastore, and a record of what it was told. */
import assert from 'node:assert/strict';
import { ChannelCredentials } from '@grpc/grpc-js';
import { pino } from 'pino';
import { EtcdDatastore, type EtcdDatastoreOptions } from '../../../src/datastore/etcd/etcd-datastore.ts';
import { KVClient, PutRequest } from '../../../src/datastore/etcd/proto/etcd.ts';
import type { DatastoreEvent, Lease, OwnHost } from '../../../src/datastore/types.ts';
import { parseIpv4 } from '../../../src/net/ip.ts';
import { parseMac } from '../../../src/net/mac.ts';
import { parsePrefix } from '../../../src/net/prefix.ts';
import { eventually } from './exec.ts';

export const NEVER = new AbortController().signal;

/** The value that flannel writes for a vxlan host. */
export function flannelValue(publicIp: string, mac = '72:55:b1:be:47:8f'): string {
  return `{"PublicIP":"${publicIp}","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"${mac}"}}`;
}

export function ownHost(publicIp: string, previousSubnet?: string): OwnHost {
  return {
    attributes: { publicIp: parseIpv4(publicIp), backendType: 'vxlan', vtepMac: parseMac(macOf(publicIp)), vni: 1 },
    previousSubnet: previousSubnet === undefined ? undefined : parsePrefix(previousSubnet),
  };
}

/** What `ownHost` publishes. */
export function ownValue(publicIp: string): string {
  return flannelValue(publicIp, macOf(publicIp));
}

function macOf(publicIp: string): string {
  return `0a:01:${publicIp
    .split('.')
    .map((byte) => Number(byte).toString(16).padStart(2, '0'))
    .join(':')}`;
}

/** Puts under way at once: etcd then shares one fsync among many. */
const PUTS_AT_ONCE = 50;

/** Puts many keys, each in a revision of its own; etcdctl takes 10 ms and more for each. */
export async function putAll(
  endpoint: string,
  entries: readonly (readonly [key: string, value: string])[],
): Promise<void> {
  const options = { 'grpc.enable_http_proxy': 0 };
  const client = new KVClient(endpoint.replace(/^http:\/\//, ''), ChannelCredentials.createInsecure(), options);
  const put = ([key, value]: readonly [string, string]): Promise<void> =>
    new Promise((resolve, reject) => {
      const request = PutRequest.fromPartial({ key: Buffer.from(key), value: Buffer.from(value) });
      client.put(request, (error) => (error === null ? resolve() : reject(error)));
    });
  try {
    for (let at = 0; at < entries.length; at += PUTS_AT_ONCE) {
      await Promise.all(entries.slice(at, at + PUTS_AT_ONCE).map(put));
    }
  } finally {
    client.close();
  }
}

export class EtcdHost {
  readonly datastore: EtcdDatastore;
  readonly events: DatastoreEvent[] = [];
  /** What the log said, as text. */
  log = '';
  /** Leases as a consumer holds them, from snapshots and changes alone. */
  readonly leases = new Map<string, Lease>();
  readonly bad = new Map<string, string>();
  snapshots = 0;
  #watching: Promise<void> | undefined;

  constructor(options: Partial<EtcdDatastoreOptions> & Pick<EtcdDatastoreOptions, 'endpoints' | 'prefix'>) {
    const write = (text: string): void => {
      this.log += text;
      if (process.env.ETCD_TEST_LOG) process.stderr.write(text);
    };
    const logger = pino({ level: process.env.ETCD_TEST_LOG ?? 'debug' }, { write });
    this.datastore = new EtcdDatastore({ renewMarginMinutes: 60, logger, ...options });
  }

  watch(): this {
    this.#watching = this.#consume();
    return this;
  }

  async watchFromSnapshot(): Promise<this> {
    this.watch();
    await eventually('first snapshot', async () => this.snapshots > 0, { timeoutMs: 30_000 });
    return this;
  }

  join(publicIp: string, previousSubnet?: string): Promise<Lease> {
    return this.datastore.join(ownHost(publicIp, previousSubnet), NEVER);
  }

  /** Waits for an event; `after` is the number of events to pass over. */
  async seen<T extends DatastoreEvent['type']>(
    type: T,
    { after = 0, timeoutMs = 30_000 } = {},
  ): Promise<DatastoreEvent & { type: T }> {
    return eventually(
      `event ${type}`,
      async () => this.events.slice(after).find((event): event is DatastoreEvent & { type: T } => event.type === type),
      { timeoutMs },
    ).catch((error: unknown) => {
      throw new Error(
        `no event ${type}; events: ${JSON.stringify(this.events.map((event) => event.type))}\n${this.log}`,
        { cause: error },
      );
    });
  }

  count(type: DatastoreEvent['type']): number {
    return this.events.filter((event) => event.type === type).length;
  }

  async stop(): Promise<void> {
    await this.datastore.stop();
    await this.#watching;
  }

  async #consume(): Promise<void> {
    for await (const event of this.datastore.watch(NEVER)) {
      this.events.push(event);
      if (event.type === 'snapshot') {
        this.snapshots += 1;
        this.leases.clear();
        this.bad.clear();
        for (const lease of event.leases) this.leases.set(lease.key, lease);
      }
      if (event.type === 'changes') {
        for (const change of event.changes) {
          if (change.type === 'put') this.leases.set(change.lease.key, change.lease);
          else this.leases.delete(change.key);
          this.bad.delete(change.type === 'put' ? change.lease.key : change.key);
        }
      }
      if (event.type === 'snapshot' || event.type === 'changes') {
        for (const { key, reason } of event.bad) this.bad.set(key, reason);
      }
      assert.ok(!(event.type === 'changes' && this.snapshots === 0), 'a snapshot comes before any change');
    }
  }
}
