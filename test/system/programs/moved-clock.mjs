/** Preloaded (`node --import`): the time of day is the machine's and what the file $MOVED_CLOCK says, in milliseconds. */
import { readFileSync } from 'node:fs';

const Machine = Date;

function now() {
  return Machine.now() + Number(readFileSync(process.env.MOVED_CLOCK, 'utf8'));
}

class MovedDate extends Machine {
  constructor(...words) {
    super(...(words.length === 0 ? [now()] : words));
  }

  static now() {
    return now();
  }
}

globalThis.Date = MovedDate;
