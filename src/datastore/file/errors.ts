/** Why the hosts file cannot serve; stable, so that callers may branch on it. */
export type HostsFileErrorCode =
  /** The file is not there, or cannot be read. */
  | 'HOSTS_FILE_UNREADABLE'
  /** The file breaks a rule of its form. */
  | 'HOSTS_FILE_INVALID'
  /** The file does not list our own host. */
  | 'HOSTS_FILE_NO_OWN_HOST';

/** A hosts file that cannot serve. The message says where, what is wrong and what to do. */
export class HostsFileError extends Error {
  override readonly name = 'HostsFileError';
  readonly code: HostsFileErrorCode;

  constructor(code: HostsFileErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}
