/** What the log says of changes that undo what somebody else did to our device or our routes. */
import type { HostOperation } from '../dataplane/protocol.ts';
import type { Logger } from '../observe/log.ts';

/** Repairs of one round that are spelled out. */
const REPAIRS_TOLD = 10;

export function tellRepairs(logger: Logger, network: string | undefined, operations: readonly HostOperation[]): void {
  for (const repair of operations.slice(0, REPAIRS_TOLD)) {
    logger.warn({ network, repair }, `put right: ${describeOperation(repair)}`);
  }
  const more = operations.length - REPAIRS_TOLD;
  if (more > 0) logger.warn({ network }, `put right: ${more} more addresses and routes`);
}

/** What the kernel lacked, or held without being asked to. */
function describeOperation(operation: HostOperation): string {
  switch (operation.op) {
    case 'address.add':
      return `address ${operation.address} was missing on ${operation.dev}`;
    case 'address.del':
      return `address ${operation.address} was left over on ${operation.dev}`;
    case 'route.replace':
      return `route ${operation.destination} was missing or another on ${operation.dev}`;
    case 'route.del':
      return `route ${operation.destination} was left over on ${operation.dev}`;
    case 'blackhole.add':
      return `blackhole ${operation.destination} was missing`;
    case 'blackhole.del':
      return `blackhole ${operation.destination} was left over`;
    case 'link.set':
      return `${operation.dev} was ${operation.up ? 'down' : 'up'}`;
    case 'link.del':
      return `${operation.dev} was left over`;
  }
}
