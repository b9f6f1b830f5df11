/** The child of `writer.ts`. */
import { ChannelCredentials } from '@grpc/grpc-js';
import { DeleteRangeRequest, KVClient, PutRequest } from '../../src/datastore/etcd/proto/etcd.ts';
import { ENDPOINT } from '../../test/system/lib/cluster.ts';
import type { Answer, Request } from './writer.ts';

/** Puts under way at once: etcd then shares one fsync among many. */
const AT_ONCE = 200;

const client = new KVClient(new URL(ENDPOINT).host, ChannelCredentials.createInsecure(), {
  'grpc.enable_http_proxy': 0,
});

function put([key, value]: readonly [string, string]): Promise<void> {
  const request = PutRequest.fromPartial({ key: Buffer.from(key), value: Buffer.from(value) });
  return new Promise((resolve, reject) => {
    client.put(request, (error) => (error === null ? resolve() : reject(error)));
  });
}

function remove(key: string): Promise<void> {
  const request = DeleteRangeRequest.fromPartial({ key: Buffer.from(key) });
  return new Promise((resolve, reject) => {
    client.deleteRange(request, (error) => (error === null ? resolve() : reject(error)));
  });
}

async function serve(request: Request): Promise<void> {
  if ('delete' in request) return remove(request.delete);
  for (let at = 0; at < request.put.length; at += AT_ONCE) {
    await Promise.all(request.put.slice(at, at + AT_ONCE).map(put));
  }
}

process.on('message', (request: Request) => {
  const { id } = request;
  const answer = (value: Answer): void => void process.send?.(value);
  serve(request).then(
    () => answer({ id }),
    (error: unknown) => answer({ id, error: error instanceof Error ? error.message : String(error) }),
  );
});
