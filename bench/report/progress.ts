/** What is going on, on standard error: a line for each measurement, and on a terminal what is being done now. */
import { METRIC_NAMES, metricFacts, type Sample } from '../vocabulary.ts';

interface About {
  readonly profile: string;
  readonly repetition: number;
  readonly system: string;
  readonly test: string;
}

export class Progress {
  readonly #terminal = process.stderr.isTTY === true;
  readonly #total: number;
  readonly #started = performance.now();
  #done = 0;

  constructor(total: number) {
    this.#total = total;
  }

  /** Replaced by what comes next. */
  say(text: string): void {
    if (this.#terminal) process.stderr.write(`\r\x1b[K${text}`);
    else process.stderr.write(`${text}\n`);
  }

  /** Stays. */
  note(text: string): void {
    process.stderr.write(`${this.#terminal ? '\r\x1b[K' : ''}${text}\n`);
  }

  begin(about: About): void {
    if (this.#terminal) this.say(`${this.#position(this.#done + 1)} ${describe(about)} ...${this.#left()}`);
  }

  sample(sample: Sample): void {
    this.#done += 1;
    const values = METRIC_NAMES.flatMap((metric) => {
      const value = sample.values[metric];
      const { unit, decimals } = metricFacts(metric);
      return value === undefined ? [] : [`${value.toFixed(decimals)} ${unit}`];
    });
    const result = sample.error === undefined ? values.join(', ') : `failed: ${sample.error}`;
    const busy = sample.noise > 0.05 ? `  [others used ${Math.round(sample.noise * 100)} % of the machine]` : '';
    const again = sample.attempts > 1 ? `  [attempt ${sample.attempts}]` : '';
    this.note(`${this.#position(this.#done)} ${describe(sample)}  ${result}${busy}${again}`);
  }

  end(): void {
    if (this.#terminal) process.stderr.write('\r\x1b[K');
  }

  #position(number: number): string {
    const total = String(this.#total);
    return `[${String(number).padStart(total.length)}/${total}]`;
  }

  #left(): string {
    if (this.#done < 5) return '';
    const seconds = ((performance.now() - this.#started) / this.#done / 1000) * (this.#total - this.#done);
    return seconds < 90 ? `  (${Math.round(seconds)} s left)` : `  (${Math.round(seconds / 60)} min left)`;
  }
}

function describe(about: About): string {
  return `${about.profile} #${about.repetition + 1} ${about.test.padEnd(7)} ${about.system.padEnd(7)}`;
}
