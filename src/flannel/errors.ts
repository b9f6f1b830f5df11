/** What kind of flannel text was refused; stable, so that callers may branch on it. */
export type FlannelErrorCode =
  /** A network configuration that breaks a rule of flannel's. */
  | 'INVALID_CONFIG'
  /** A network configuration that flannel knows and vtepd does not serve. */
  | 'UNSUPPORTED_CONFIG'
  /** A name below `subnets/` that is no lease key. */
  | 'INVALID_KEY'
  /** A lease value that peers cannot use. */
  | 'INVALID_LEASE';

/** A refused flannel text. The message names the field and its value and says what to do. */
export class FlannelError extends Error {
  override readonly name = 'FlannelError';
  readonly code: FlannelErrorCode;
  /** Dotted path of the field, such as `Backend.VNI`; empty for the text as a whole. */
  readonly field: string;

  constructor(code: FlannelErrorCode, field: string, reason: string) {
    super(field === '' ? reason : `${field}: ${reason}`);
    this.code = code;
    this.field = field;
  }
}
