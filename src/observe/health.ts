/**
 * `/healthz`, `/readyz` and `/metrics`. The first says whether this host does its job; it stays 200 while the datastore is away,
 * because traffic goes on and a restart would help nobody. The body tells all states apart.
 */
import { createServer, type Server, type ServerResponse } from 'node:http';
import type { ControllerStatus } from '../daemon/status-types.ts';
import { CONTENT_TYPE } from './exposition.ts';

export interface Health {
  readonly status: 'ok' | 'starting' | 'failing';
  readonly ready: boolean;
  readonly plane: string;
  readonly datastore: string;
  /** Since when; of a stale datastore, up to when it was followed. */
  readonly datastore_since: string;
  readonly datastore_reason: string | null;
  readonly lease: string;
  readonly lease_reason: string | null;
}

export function healthOf(status: ControllerStatus): Health {
  const failing = status.ready && (status.plane.state === 'down' || status.leaseLost !== null);
  return {
    status: failing ? 'failing' : status.ready ? 'ok' : 'starting',
    ready: status.ready && !failing,
    plane: status.plane.state,
    datastore: status.datastore.state,
    datastore_since: status.datastore.since,
    datastore_reason: status.datastore.reason,
    lease: status.leaseLost !== null ? 'lost' : status.lease === null ? 'none' : status.lease.subnet,
    lease_reason: status.leaseLost,
  };
}

export interface Told {
  readonly status: () => ControllerStatus;
  /** In Prometheus' text format. */
  readonly metrics: () => Promise<string>;
}

/** Serves the three paths until the returned server is closed. Rejects when the port cannot be had. */
export async function serveHealth(ip: string, port: number, { status, metrics }: Told): Promise<Server> {
  const server = createServer(
    { requestTimeout: 5_000, headersTimeout: 5_000, keepAliveTimeout: 1_000 },
    (request, response) => {
      const path = (request.url ?? '').split('?')[0] ?? '';
      const known = ['/healthz', '/readyz', '/metrics'].includes(path);
      if (!known || (request.method !== 'GET' && request.method !== 'HEAD')) {
        response
          .writeHead(known ? 405 : 404, { 'content-type': 'text/plain' })
          .end('try /healthz, /readyz or /metrics\n');
        return;
      }
      if (path === '/metrics') {
        void answerMetrics(response, metrics);
        return;
      }
      const health = healthOf(status());
      const ok = path === '/healthz' ? health.status !== 'failing' : health.ready;
      response.writeHead(ok ? 200 : 503, { 'content-type': 'application/json' }).end(`${JSON.stringify(health)}\n`);
    },
  );
  server.maxConnections = 64;
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) =>
      reject(new Error(`healthz-ip ${ip} healthz-port ${port}: ${error.message}`, { cause: error })),
    );
    server.listen(port, ip, resolve);
  });
  server.on('error', () => undefined);
  return server;
}

async function answerMetrics(response: ServerResponse, metrics: () => Promise<string>): Promise<void> {
  try {
    const text = await metrics();
    response.writeHead(200, { 'content-type': CONTENT_TYPE }).end(text);
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    response.writeHead(500, { 'content-type': 'text/plain' }).end(`${text}\n`);
  }
}
