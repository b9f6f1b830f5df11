/** What every system under test can do. */
import type { Pair } from '../bed/pair.ts';

export interface System {
  /** Short, as in the table and in `--systems`. */
  readonly name: string;
  readonly title: string;
  /** Why it cannot be measured on this machine; nothing when it can. */
  unavailable(): Promise<string | undefined>;
  /** Sets the system up on a fresh pair. What it starts goes to the ends' `children`. */
  install(pair: Pair): Promise<Installed>;
}

export interface Installed {
  /** Address of the far end as the near end reaches it. */
  readonly address: string;
  /** Counters worth keeping, taken after the last measurement. */
  counters?(): Promise<unknown>;
  /** Lets go of what is not a process or a device. */
  close?(): Promise<void>;
}
