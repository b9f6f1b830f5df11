/**
 * `/healthz` and `/readyz`. The first says whether this host does its job; it stays 200 while the datastore is away,
 * because traffic goes on and a restart would help nobody. The body tells all states apart.
 */
import { createServer, type Server } from 'node:http';
import type { ControllerStatus } from '../daemon/status-types.ts';

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

/** Serves both paths until the returned server is closed. Rejects when the port cannot be had. */
export async function serveHealth(ip: string, port: number, status: () => ControllerStatus): Promise<Server> {
  const server = createServer(
    { requestTimeout: 5_000, headersTimeout: 5_000, keepAliveTimeout: 1_000 },
    (request, response) => {
      const path = (request.url ?? '').split('?')[0];
      const health = healthOf(status());
      const ok = path === '/healthz' ? health.status !== 'failing' : path === '/readyz' ? health.ready : undefined;
      if (ok === undefined || (request.method !== 'GET' && request.method !== 'HEAD')) {
        response
          .writeHead(ok === undefined ? 404 : 405, { 'content-type': 'text/plain' })
          .end('try /healthz or /readyz\n');
        return;
      }
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
