/** Requests that change tables, put to the model, and tables and answers as texts that are the same for equal ones. */
import type { TablesDump } from '../../../src/dataplane/protocol.ts';
import type { Endpoint } from '../../model/endpoint.ts';
import { Refusal } from '../../model/tables.ts';
import type { Change } from './model-actions.ts';

export interface Outcome {
  readonly result?: unknown;
  readonly refused?: string;
}

export function outcomeOf(act: () => unknown): Outcome {
  try {
    return { result: act() };
  } catch (error) {
    if (error instanceof Refusal) return { refused: error.code };
    throw error;
  }
}

export function applyToModel(model: Endpoint, { method, params }: Change): unknown {
  const network = model.network(params.network);
  switch (method) {
    case 'network.update':
      return network.update(params);
    case 'fdb.change':
      return network.tables.changeFdb(params);
    case 'neigh.change':
      return network.tables.changeNeighbour(params);
    case 'tables.replace':
      return network.tables.replace(params);
    case 'tables.patch':
      return network.tables.patch(params);
  }
}

export function text(value: unknown): string {
  return JSON.stringify(value, (_key, held) =>
    isRecord(held) ? Object.fromEntries(Object.entries(held).sort(byName)) : held,
  );
}

function byName([a]: [string, unknown], [b]: [string, unknown]): number {
  return a < b ? -1 : 1;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export function tableLines({ revisions, fdb, neighbours, peers }: TablesDump): string[] {
  return [
    `revisions ${text(revisions)}`,
    ...fdb.map((entry) => `fdb ${text({ ...entry, used: null })}`),
    ...neighbours.map((entry) => `neighbour ${text(entry)}`),
    `peers ${text(peers)}`,
  ];
}
