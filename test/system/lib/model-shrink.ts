/** Makes a failing list of actions small: as few actions as still fail, each as short as still fails. */
import type { Action } from './model-actions.ts';

/** True if the list still fails. */
export type Fails = (actions: readonly Action[]) => Promise<boolean>;

/** Scenarios with errors from the underlay take seconds each. */
const ENOUGH_MS = 60_000;

/** Tries at most `attempts` lists, and not for ever. */
export async function shrink(actions: readonly Action[], fails: Fails, attempts = 200): Promise<readonly Action[]> {
  let left = attempts;
  const until = Date.now() + ENOUGH_MS;
  const still: Fails = async (list) => {
    left -= 1;
    return left >= 0 && Date.now() < until && (await fails(list));
  };
  let small = actions;
  for (
    let size = Math.ceil(small.length / 2);
    size >= 1 && left > 0 && Date.now() < until;
    size = size === 1 ? 0 : Math.ceil(size / 2)
  ) {
    // From the end: what comes after the failure goes first.
    for (let end = small.length; end > 0; end -= size) {
      const fewer = [...small.slice(0, Math.max(0, end - size)), ...small.slice(end)];
      if (fewer.length < small.length && (await still(fewer))) small = fewer;
    }
  }
  for (let at = 0; at < small.length; at += 1) small = await shorten(small, at, still);
  return small;
}

/** The payload behind the headers, and then everything, cut and zeroed. */
async function shorten(actions: readonly Action[], at: number, still: Fails): Promise<readonly Action[]> {
  let list = actions;
  const bytes = bytesOf(list[at]);
  if (bytes === undefined) return list;
  for (const keep of [8, 22, 42, 50, 64, 128]) {
    const now = bytesOf(list[at]);
    if (now === undefined || keep >= now.length) continue;
    for (const candidate of [
      now.subarray(0, keep),
      Buffer.concat([now.subarray(0, keep), Buffer.alloc(now.length - keep)]),
    ]) {
      if (candidate.equals(now)) continue;
      const next = list.map((action, index) => (index === at ? withBytes(action, candidate) : action));
      if (await still(next)) {
        list = next;
        break;
      }
    }
  }
  return list;
}

function bytesOf(action: Action | undefined): Buffer | undefined {
  if (action?.kind === 'wire') return action.payload;
  // A frame with a virtio header would contradict it, and less than an Ethernet header cannot be sent.
  return action?.kind === 'tap' && action.virtio.checksum === undefined ? action.frame : undefined;
}

function withBytes(action: Action, bytes: Buffer): Action {
  if (action.kind === 'wire') return { ...action, payload: bytes };
  return action.kind === 'tap' && bytes.length >= 14 ? { ...action, frame: bytes } : action;
}
