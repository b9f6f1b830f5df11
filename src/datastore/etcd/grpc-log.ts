/** gRPC writes to stderr by itself; here it writes to our log, at `trace`: what matters comes as a call's status. */
import { format } from 'node:util';
import { setLogger } from '@grpc/grpc-js';
import type { Logger } from 'pino';

/** The logger is one per process, as gRPC's is: the last session's. */
export function sendGrpcLogTo(logger: Logger): void {
  const write = (...words: unknown[]): void => logger.trace({ from: 'grpc' }, format(...words));
  setLogger({ error: write, info: write, debug: write });
}
