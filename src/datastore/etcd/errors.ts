/**
 * What can go wrong with etcd, under names that stay. A gRPC status says little by itself: etcd uses 3 for a wrong
 * password as for an outdated token, and 14 for a dead host as for a member without a leader, so the text decides too.
 */
import { type ServiceError, status } from '@grpc/grpc-js';

export type EtcdErrorCode =
  /** The endpoint refuses, resets or does not answer. */
  | 'UNAVAILABLE'
  /** The endpoint accepted the call and gave no answer in time. */
  | 'TIMEOUT'
  /** The member is cut off from its quorum. */
  | 'NO_LEADER'
  /** etcd refuses user or password. */
  | 'AUTH_FAILED'
  /** etcd wants a user and none is set. */
  | 'AUTH_REQUIRED'
  /** A user is set and etcd knows no users. */
  | 'AUTH_DISABLED'
  /** The token expired or users were edited: authenticate again. */
  | 'TOKEN_INVALID'
  /** The user has no right to the key. */
  | 'PERMISSION_DENIED'
  /** The wanted revision is gone: list again. */
  | 'COMPACTED'
  /** The store is younger than what was seen of it (restored from a snapshot): list again. */
  | 'ROLLED_BACK'
  | 'LEASE_NOT_FOUND'
  /** etcd's disk quota is used up: it takes no writes. */
  | 'NO_SPACE'
  /** Any other answer that should not come. */
  | 'UNEXPECTED'
  /** `--etcd-endpoints` holds something that is no endpoint. */
  | 'INVALID_ENDPOINT'
  /** A certificate or key file cannot be used. */
  | 'TLS_FILES'
  /** Every subnet of the network is taken. */
  | 'NETWORK_FULL'
  /** Another host publishes our PublicIP. */
  | 'PUBLIC_IP_TAKEN'
  /** Other hosts took each subnet that we tried. */
  | 'CONFLICT'
  /** The datastore was stopped meanwhile, or before. */
  | 'STOPPED';

/** Failures that time or an operator at etcd may heal: waiting loops go on after these and end with any other. */
const PASSING: ReadonlySet<EtcdErrorCode> = new Set<EtcdErrorCode>([
  'UNAVAILABLE',
  'TIMEOUT',
  'NO_LEADER',
  'AUTH_FAILED',
  'AUTH_REQUIRED',
  'AUTH_DISABLED',
  'TOKEN_INVALID',
  'PERMISSION_DENIED',
  'COMPACTED',
  'ROLLED_BACK',
  'LEASE_NOT_FOUND',
  'NO_SPACE',
  'UNEXPECTED',
]);

/** Failures that say nothing about this endpoint's health but that another endpoint may do better. */
const CHANGE_ENDPOINT: ReadonlySet<EtcdErrorCode> = new Set<EtcdErrorCode>(['UNAVAILABLE', 'TIMEOUT', 'NO_LEADER']);

/** Failures that only an operator can heal: ask seldom. */
const NEEDS_OPERATOR: ReadonlySet<EtcdErrorCode> = new Set<EtcdErrorCode>([
  'AUTH_FAILED',
  'AUTH_REQUIRED',
  'PERMISSION_DENIED',
  'NO_SPACE',
  'PUBLIC_IP_TAKEN',
]);

export class EtcdError extends Error {
  override readonly name = 'EtcdError';
  readonly code: EtcdErrorCode;

  constructor(code: EtcdErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }

  get passing(): boolean {
    return PASSING.has(this.code);
  }

  get changesEndpoint(): boolean {
    return CHANGE_ENDPOINT.has(this.code);
  }

  get needsOperator(): boolean {
    return NEEDS_OPERATOR.has(this.code);
  }
}

/** True for a failure that waiting may heal. */
export function isPassing(error: unknown): error is EtcdError {
  return error instanceof EtcdError && error.passing;
}

/** The name for an answer of etcd: gRPC status and text, from a call's status or a watch's cancel reason. */
export function codeOfAnswer(grpcCode: number, text: string): EtcdErrorCode {
  if (/invalid auth token|revision of auth store is old/.test(text)) return 'TOKEN_INVALID';
  if (/invalid user ID or password/.test(text)) return 'AUTH_FAILED';
  if (/user name is empty|user name not found/.test(text)) return 'AUTH_REQUIRED';
  if (/authentication is not enabled/.test(text)) return 'AUTH_DISABLED';
  if (/has been compacted/.test(text)) return 'COMPACTED';
  if (/is a future revision/.test(text)) return 'ROLLED_BACK';
  if (/lease not found/.test(text)) return 'LEASE_NOT_FOUND';
  if (/no leader/.test(text)) return 'NO_LEADER';
  if (/space exceeded/.test(text)) return 'NO_SPACE';
  if (/permission denied/.test(text)) return 'PERMISSION_DENIED';
  switch (grpcCode) {
    case status.DEADLINE_EXCEEDED:
      return 'TIMEOUT';
    case status.PERMISSION_DENIED:
      return 'PERMISSION_DENIED';
    case status.UNAUTHENTICATED:
      return 'TOKEN_INVALID';
    // 13 is what a reset HTTP/2 stream turns into, 1 a call whose connection we closed, 2 a server's own deadline.
    case status.UNAVAILABLE:
    case status.CANCELLED:
    case status.INTERNAL:
    case status.UNKNOWN:
      return 'UNAVAILABLE';
    default:
      return 'UNEXPECTED';
  }
}

/** An error for people: what happened, to which endpoint, what to do. */
export function etcdError(code: EtcdErrorCode, endpoint: string, detail: string, cause?: unknown): EtcdError {
  const text = detail.replace(/^etcdserver: /, '');
  const options = cause === undefined ? undefined : { cause };
  switch (code) {
    case 'UNAVAILABLE':
      return new EtcdError(
        code,
        `etcd at ${endpoint} cannot be reached (${text}); check that it runs and that --etcd-endpoints names it`,
        options,
      );
    case 'TIMEOUT':
      return new EtcdError(
        code,
        `etcd at ${endpoint} did not answer in time (${text}); check the host, the path to it and --etcd-endpoints`,
        options,
      );
    case 'NO_LEADER':
      return new EtcdError(
        code,
        `etcd at ${endpoint} has no leader; bring back the other members, or name them all in --etcd-endpoints`,
        options,
      );
    case 'AUTH_FAILED':
      return new EtcdError(
        code,
        `etcd at ${endpoint} refuses the user or the password; correct --etcd-username and --etcd-password`,
        options,
      );
    case 'AUTH_REQUIRED':
      return new EtcdError(
        code,
        `etcd at ${endpoint} asks for a user (${text}); set --etcd-username and --etcd-password`,
        options,
      );
    case 'AUTH_DISABLED':
      return new EtcdError(
        code,
        `etcd at ${endpoint} has authentication switched off; leave out --etcd-username or enable it in etcd`,
        options,
      );
    case 'PERMISSION_DENIED':
      return new EtcdError(
        code,
        `etcd at ${endpoint} denies access below the prefix; grant the user of --etcd-username readwrite on --etcd-prefix`,
        options,
      );
    case 'NO_SPACE':
      return new EtcdError(
        code,
        `etcd at ${endpoint} takes no writes (${text}); compact and defragment it, then disarm its alarm`,
        options,
      );
    default:
      return new EtcdError(code, `etcd at ${endpoint}: ${text}`, options);
  }
}

/** What a failed gRPC call means. Anything that is not a gRPC failure passes unchanged. */
export function fromGrpc(error: unknown, endpoint: string): unknown {
  if (!isServiceError(error)) return error;
  return etcdError(codeOfAnswer(error.code, error.details), endpoint, error.details || error.message, error);
}

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && 'code' in error && typeof error.code === 'number' && 'details' in error;
}
