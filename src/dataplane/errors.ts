/** Failures of a conversation over a control socket. */

/** Standard and own codes: what the other side named, or one of those below. */
export type LocalErrorCode =
  /** Nothing listens on the socket. */
  | 'NOT_RUNNING'
  /** We may not open the socket. */
  | 'EACCES'
  /** The connection ended before the answer. */
  | 'CLOSED'
  /** No answer within the time limit. */
  | 'TIMEOUT'
  /** The caller gave up. */
  | 'ABORTED'
  /** What came is not the protocol. */
  | 'PROTOCOL_ERROR'
  /** The other side speaks another version of the protocol. */
  | 'PROTOCOL_MISMATCH';

export class DataplaneError extends Error {
  /** `RpcErrorData.name` of the answer (an errno name, `REVISION_MISMATCH`, ...) or a `LocalErrorCode`. */
  readonly code: string;

  constructor(code: LocalErrorCode | (string & {}), message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'DataplaneError';
    this.code = code;
  }
}

/** True where the connection, not the request, is what failed: worth another try on the next connection. */
export function isConnectionLoss(error: unknown): boolean {
  return (
    error instanceof DataplaneError &&
    (error.code === 'CLOSED' ||
      error.code === 'NOT_RUNNING' ||
      error.code === 'TIMEOUT' ||
      error.code === 'PROTOCOL_ERROR')
  );
}

/** The system's name of an error, such as `ENOENT`. */
export function errnoOf(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}
