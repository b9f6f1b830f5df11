/**
 * What may happen to a cluster, one action after the other, chosen by a seed alone: a picture of who is up and how etcd is
 * decides what is possible next, never what the cluster made of it. So a seed and a number of actions are the whole story,
 * and a list of actions, written as words, is one that can be played again, whole or shortened.
 */
import type { Random } from './model-random.ts';

/** A verb and its words, as `kill-plane c`. */
export type Action = readonly [verb: Verb, ...words: string[]];

export const VERBS = {
  wait: 'MS',
  run: 'HOST [MAC]: vtepd run; a host that has left joins with nothing of its past',
  stop: 'HOST: SIGTERM for the controller',
  kill: 'HOST: SIGKILL for the controller',
  'kill-plane': 'HOST: SIGKILL for the dataplane',
  'kill-both': 'HOST',
  leave: 'HOST: its processes, device, state and lease go',
  address: 'HOST IP: another address of its underlay device, and so another PublicIP',
  'device-mac': 'HOST MAC: what systemd or NetworkManager does to a device',
  'lose-key': 'HOST: somebody deletes its lease',
  put: 'N GENERATION: a lease written by hand; a new generation has another MAC and PublicIP',
  del: 'N: it is deleted',
  burst: 'GENERATION: many such leases in one moment',
  bad: 'N: a key that is none, a value that is none',
  compact: 'the history of etcd is cut off',
  'etcd-kill': 'SIGKILL',
  'etcd-start': '',
  'etcd-freeze': 'SIGSTOP',
  'etcd-thaw': 'SIGCONT',
  'etcd-slow': 'stopped for four fifths of the time',
  'etcd-quick': '',
  cut: 'drop|reset|link HOST,...: the hosts cannot reach etcd; `link`: nobody',
  join: 'the cut is over',
} as const;
export type Verb = keyof typeof VERBS;

/** Traffic of these may never stop; their controllers may. */
export const STEADY = ['a', 'b'] as const;
/** To these anything happens. */
export const TOUCHED = ['c', 'd'] as const;
/** Leases written by hand have subnets from 10.246.200.0 on: a host that joins is given one of the first hundred. */
export const BY_HAND = 12;

type EtcdState = 'well' | 'killed' | 'frozen' | 'slow' | 'cut';

const HEAL: Readonly<Record<Exclude<EtcdState, 'well'>, Action>> = {
  killed: ['etcd-start'],
  frozen: ['etcd-thaw'],
  slow: ['etcd-quick'],
  cut: ['join'],
};
/** A fault lasts for so many actions at most. */
const FAULT_ACTIONS = 15;

interface Host {
  controller: boolean;
  member: boolean;
  /** Of its two addresses. */
  second: boolean;
}

export class ActionSource {
  readonly #random: Random;
  readonly #hosts = new Map<string, Host>(
    [...STEADY, ...TOUCHED].map((label) => [label, { controller: true, member: true, second: false }]),
  );
  #etcd: EtcdState = 'well';
  #faultFor = 0;
  #generation = 0;
  #pause = false;

  constructor(random: Random) {
    this.#random = random;
  }

  next(): Action {
    this.#pause = !this.#pause;
    if (this.#pause) return ['wait', String(this.#random.int(0, 1_000))];
    const action = this.#choose();
    this.#picture(action);
    return action;
  }

  /** What ends all faults and starts all hosts that have not left; leaves the picture as it is. */
  ending(): Action[] {
    const heal: Action[] = this.#etcd === 'well' ? [] : [HEAL[this.#etcd]];
    const down = [...this.#hosts].filter(([, { controller, member }]) => member && !controller);
    return [...heal, ...down.map(([label]): Action => ['run', label])];
  }

  #choose(): Action {
    const random = this.#random;
    if (this.#etcd !== 'well') {
      this.#faultFor += 1;
      if (random.chance(15) || this.#faultFor > FAULT_ACTIONS) return HEAL[this.#etcd];
    }
    const fault = this.#etcd === 'well' && random.chance(25);
    const written = this.#etcd !== 'killed' && this.#etcd !== 'frozen' && random.chance(55);
    return fault ? this.#fault() : written ? this.#write() : this.#touch();
  }

  #fault(): Action {
    const random = this.#random;
    const all = [...STEADY, ...TOUCHED];
    const some = all.filter(() => random.chance(60));
    return random.weighted<Action>([
      [3, ['etcd-kill']],
      [3, ['etcd-freeze']],
      [2, ['etcd-slow']],
      [3, ['cut', random.pick(['drop', 'reset']), (some.length === 0 ? all : some).join()]],
      [1, ['cut', 'link', random.pick(TOUCHED)]],
    ]);
  }

  #write(): Action {
    const random = this.#random;
    this.#generation += 1;
    const at = String(random.int(0, BY_HAND - 1));
    const generation = String(this.#generation);
    const choices: [number, Action][] = [
      [6, ['put', at, generation]],
      [4, ['del', at]],
      [1, ['burst', generation]],
      [1, ['bad', at]],
      [3, ['compact']],
    ];
    const member = this.#someone(TOUCHED, ({ member }) => member);
    if (member !== undefined) choices.push([2, ['lose-key', member]], [2, ['leave', member]]);
    return random.weighted(choices);
  }

  /** What needs no etcd. */
  #touch(): Action {
    const random = this.#random;
    const down = this.#someone([...STEADY, ...TOUCHED], ({ controller }) => !controller);
    if (down !== undefined && random.chance(50))
      return random.chance(25) && isTouched(down) ? ['run', down, this.#mac()] : ['run', down];
    const choices: [number, Action][] = [[1, ['wait', String(random.int(500, 3_000))]]];
    const up = this.#someone([...STEADY, ...TOUCHED], ({ controller }) => controller);
    if (up !== undefined) choices.push([2, ['stop', up]], [4, ['kill', up]]);
    const member = this.#someone(TOUCHED, ({ member }) => member);
    if (member !== undefined) {
      choices.push([3, ['kill-plane', member]], [2, ['kill-both', member]], [2, ['device-mac', member, this.#mac()]]);
      choices.push([2, ['address', member, addressOf(member, this.#hosts.get(member)?.second === false)]]);
    }
    return random.weighted(choices);
  }

  #someone(labels: readonly string[], is: (host: Host) => boolean): string | undefined {
    const some = labels.filter((label) => {
      const host = this.#hosts.get(label);
      return host !== undefined && is(host);
    });
    return some.length === 0 ? undefined : this.#random.pick(some);
  }

  #mac(): string {
    const [b, c] = [...this.#random.bytes(2)].map((byte) => byte.toString(16).padStart(2, '0'));
    return `0a:0c:00:00:${b}:${c}`;
  }

  /** Keeps the picture up to date. */
  #picture([verb, label = '']: Action): void {
    const host = this.#hosts.get(label);
    if (host !== undefined) {
      if (verb === 'run') Object.assign(host, { controller: true, member: true });
      if (verb === 'stop' || verb === 'kill' || verb === 'kill-both') host.controller = false;
      if (verb === 'leave') Object.assign(host, { controller: false, member: false });
      if (verb === 'address') host.second = !host.second;
    }
    const states: Partial<Record<Verb, EtcdState>> = {
      'etcd-kill': 'killed',
      'etcd-freeze': 'frozen',
      'etcd-slow': 'slow',
      cut: 'cut',
      'etcd-start': 'well',
      'etcd-thaw': 'well',
      'etcd-quick': 'well',
      join: 'well',
    };
    const state = states[verb];
    if (state === undefined) return;
    this.#etcd = state;
    this.#faultFor = 0;
  }
}

/** A host's first or second underlay address. */
export function addressOf(label: string, second: boolean): string {
  return `10.245.1.${(second ? 100 : 0) + label.charCodeAt(0) - 'a'.charCodeAt(0) + 3}`;
}

export function formatActions(actions: readonly Action[]): string {
  return actions.map((action) => action.join(' ')).join('\n');
}

/** One action a line; throws with the line that is none. */
export function parseActions(text: string): Action[] {
  const lines = text.split('\n').filter((line) => line.trim() !== '' && !line.startsWith('#'));
  return lines.map((line) => {
    const [verb = '', ...words] = line.trim().split(/\s+/);
    if (!isVerb(verb)) throw new Error(`'${line}' is no action; there are:\n${help()}`);
    return [verb, ...words];
  });
}

function help(): string {
  return Object.entries(VERBS)
    .map(([verb, words]) => `  ${verb} ${words}`)
    .join('\n');
}

function isVerb(word: string): word is Verb {
  return Object.hasOwn(VERBS, word);
}

function isTouched(label: string): boolean {
  return (TOUCHED as readonly string[]).includes(label);
}
