/**
 * JSON objects as Go's `encoding/json` reads them into a struct: field names match without regard to case, unknown
 * fields are ignored, of several spellings the last one counts, `null` leaves the default, and a value of the wrong type
 * is an error. Flannel's configuration and lease values are read this way by every peer.
 */
import { quote } from '../net/errors.ts';
import { FlannelError, type FlannelErrorCode } from './errors.ts';

/** Parses a JSON text that must hold an object. */
export function parseGoObject(text: string, code: FlannelErrorCode): GoObject {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new FlannelError(code, '', `is not JSON (${reason}): ${quote(text)}`);
  }
  return new GoObject(value, code, '');
}

/** One JSON object and the path to it; each getter returns undefined for an absent or null field. */
export class GoObject {
  private readonly fields = new Map<string, unknown>();
  private readonly code: FlannelErrorCode;
  private readonly path: string;

  constructor(value: unknown, code: FlannelErrorCode, path: string) {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      throw new FlannelError(code, path, `is ${describe(value)}: write a JSON object such as {"Key": "value"}`);
    }
    this.code = code;
    this.path = path;
    for (const [name, field] of Object.entries(value)) {
      if (field !== null) this.fields.set(name.toLowerCase(), field);
    }
  }

  has(name: string): boolean {
    return this.fields.has(name.toLowerCase());
  }

  string(name: string): string | undefined {
    const value = this.fields.get(name.toLowerCase());
    if (value === undefined || typeof value === 'string') return value;
    throw this.error(name, `is ${describe(value)}: write a string`);
  }

  boolean(name: string): boolean | undefined {
    const value = this.fields.get(name.toLowerCase());
    if (value === undefined || typeof value === 'boolean') return value;
    throw this.error(name, `is ${describe(value)}: write true or false`);
  }

  /** A whole number from `min` to `max`. */
  integer(name: string, min: number, max: number): number | undefined {
    const value = this.fields.get(name.toLowerCase());
    if (value === undefined) return undefined;
    if (typeof value !== 'number' || !Number.isInteger(value) || value < min || value > max) {
      throw this.error(name, `is ${describe(value)}: write a whole number from ${min} to ${max}`);
    }
    return value;
  }

  object(name: string): GoObject | undefined {
    const value = this.fields.get(name.toLowerCase());
    return value === undefined ? undefined : new GoObject(value, this.code, this.pathOf(name));
  }

  /** An error about one field. */
  error(name: string, reason: string, code: FlannelErrorCode = this.code): FlannelError {
    return new FlannelError(code, this.pathOf(name), reason);
  }

  private pathOf(name: string): string {
    return this.path === '' ? name : `${this.path}.${name}`;
  }
}

/** A refused value in a message. */
export function describe(value: unknown): string {
  if (typeof value === 'string') return quote(value);
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object' && value !== null) return 'an object';
  return String(value);
}
