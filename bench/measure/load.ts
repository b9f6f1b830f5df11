/** The load tool's commands with types: each one measurement, with what it says parsed and checked. */

import { run } from '../bed/exec.ts';
import { LOAD_TOOL } from '../bed/load-tool.ts';
import type { Pair } from '../bed/pair.ts';

/** Beyond a measurement's own length: start, connect through a slow tunnel, settle. */
const PATIENCE_MS = 15_000;

export interface Where {
  readonly pair: Pair;
  readonly address: string;
  readonly signal: AbortSignal;
}

interface Cost {
  /** CPU seconds of the whole machine meanwhile. */
  readonly busy: number;
  readonly steal: number;
}

export interface BulkResult extends Cost {
  readonly seconds: number;
  readonly bytes_out: number;
  readonly bytes_back: number;
}

export interface PacedResult extends Cost {
  readonly offered: number;
  readonly sent: number;
  readonly received: number;
  readonly sending: number;
  readonly receiving: number;
}

export interface PingResult extends Cost {
  readonly seconds: number;
  readonly trips: number;
  readonly lost: number;
  readonly p50_us: number;
  readonly p99_us: number;
  readonly p999_us: number;
}

export async function bulk(
  where: Where,
  options: { readonly flows: number; readonly both?: boolean; readonly seconds: number; readonly warm: number },
): Promise<BulkResult> {
  const words = ['--flows', String(options.flows), ...(options.both === true ? ['--both'] : [])];
  const length = options.seconds + options.warm;
  const timing = ['--seconds', String(options.seconds), '--warm', String(options.warm)];
  const result = await load('bulk', where, [...words, ...timing], length);
  return numbers(result, ['seconds', 'bytes_out', 'bytes_back', 'busy', 'steal']);
}

export async function paced(
  where: Where,
  options: { readonly size: number; readonly rate: number; readonly seconds: number },
): Promise<PacedResult> {
  const words = ['--size', String(options.size), '--rate', String(Math.round(options.rate))];
  const result = await load('paced', where, [...words, '--seconds', String(options.seconds)], options.seconds);
  return numbers(result, ['offered', 'sent', 'received', 'sending', 'receiving', 'busy', 'steal']);
}

export async function ping(
  where: Where,
  options: {
    readonly seconds: number;
    readonly tcp?: boolean;
    readonly cpus?: { readonly near: number; readonly far: number };
    /** Another than the bulk load's beside it. */
    readonly port?: number;
  },
): Promise<PingResult> {
  const { cpus } = options;
  const words = [
    ...(options.tcp === true ? ['--tcp'] : []),
    ...(cpus === undefined ? [] : ['--near-cpu', String(cpus.near), '--far-cpu', String(cpus.far)]),
    ...(options.port === undefined ? [] : ['--port', String(options.port)]),
  ];
  const result = await load('ping', where, [...words, '--seconds', String(options.seconds)], options.seconds);
  const fields = ['seconds', 'trips', 'lost', 'p50_us', 'p99_us', 'p999_us', 'busy', 'steal'] as const;
  if (isObject(result) && result.trips === 0) throw new Error('no round trip was answered');
  return numbers(result, fields);
}

async function load(command: string, where: Where, words: readonly string[], seconds: number): Promise<unknown> {
  const sides = ['--near', where.pair.near.netns, '--far', where.pair.far.netns, '--address', where.address];
  const options = { signal: where.signal, timeoutMs: seconds * 1000 + PATIENCE_MS };
  const result: unknown = JSON.parse(await run(LOAD_TOOL, [command, ...sides, ...words], options));
  return result;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}

function numbers<K extends string>(value: unknown, names: readonly K[]): Record<K, number> {
  const result: Partial<Record<K, number>> = {};
  for (const name of names) {
    const field = isObject(value) ? value[name] : undefined;
    if (typeof field !== 'number')
      throw new Error(`the load tool's result has no number '${name}': ${JSON.stringify(value)}`);
    result[name] = field;
  }
  return result as Record<K, number>;
}
