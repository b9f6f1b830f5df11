/** What is wrong with an address in text form; stable, so that callers may branch on it. */
export type AddressErrorCode = 'INVALID_MAC' | 'INVALID_IP' | 'INVALID_PREFIX';

/** A text that is not the address it should be. The message quotes the text and says what is expected. */
export class AddressError extends Error {
  override readonly name = 'AddressError';
  readonly code: AddressErrorCode;
  /** The refused text, as it came. */
  readonly value: string;

  constructor(code: AddressErrorCode, value: string, reason: string) {
    super(`${quote(value)} ${reason}`);
    this.code = code;
    this.value = value;
  }
}

/** Longest text that a message repeats: addresses are below 50 characters, the rest is somebody's noise. */
const QUOTE_MAX = 60;

/** The text in double quotes, control characters escaped, cut where it gets long: safe for a log line. */
export function quote(text: string): string {
  return JSON.stringify(text.length > QUOTE_MAX ? `${text.slice(0, QUOTE_MAX)}...` : text);
}
