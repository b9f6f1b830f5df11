/** Gathers the metrics when somebody asks; who asks meanwhile gets the same answer. */
import type { ControllerStatus } from '../daemon/status-types.ts';
import { type DataplaneClient, DataplaneError } from '../dataplane/client.ts';
import { metricsText, type PlaneFacts } from './metrics.ts';

/** The dataplane answers within a millisecond; Prometheus waits for ten seconds by default. */
const TIMEOUT_MS = 2_000;

export interface ScraperParts {
  readonly status: () => ControllerStatus;
  readonly dataplane: () => DataplaneClient | undefined;
  readonly notifications: ReadonlyMap<string, number>;
}

export class Scraper {
  readonly #parts: ScraperParts;
  #underWay: Promise<string> | undefined;

  constructor(parts: ScraperParts) {
    this.#parts = parts;
  }

  text(): Promise<string> {
    this.#underWay ??= this.#gather().finally(() => {
      this.#underWay = undefined;
    });
    return this.#underWay;
  }

  async #gather(): Promise<string> {
    const { status, dataplane, notifications } = this.#parts;
    const plane = await askPlane(dataplane());
    return metricsText({ status: status(), plane, notifications, now: new Date() });
  }
}

async function askPlane(client: DataplaneClient | undefined): Promise<PlaneFacts | undefined> {
  if (client === undefined) return undefined;
  const options = { timeoutMs: TIMEOUT_MS };
  try {
    const [hello, stats, offloads] = await Promise.all([
      client.request('hello', {}, options),
      client.request('stats', {}, options),
      client.request('offloads.show', {}, options),
    ]);
    return { hello, stats, offloads };
  } catch (error) {
    if (error instanceof DataplaneError) return undefined;
    throw error;
  }
}
