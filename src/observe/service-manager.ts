/**
 * Tells systemd that start is complete. Node has no unix datagram sockets, so `systemd-notify` sends the word: it is part
 * of systemd, and as root it names its parent, us, as the sender, so that `NotifyAccess=main` is enough.
 */
import { execFile } from 'node:child_process';
import type { Logger } from './log.ts';

export async function notifyReady(env: NodeJS.ProcessEnv, logger: Logger): Promise<void> {
  if (!env.NOTIFY_SOCKET) return;
  const error = await new Promise<Error | null>((resolve) => {
    execFile(
      'systemd-notify',
      ['--ready'],
      { env: { PATH: env.PATH, NOTIFY_SOCKET: env.NOTIFY_SOCKET }, timeout: 5_000 },
      resolve,
    );
  });
  if (error !== null)
    logger.warn(
      { err: error },
      'NOTIFY_SOCKET is set, but systemd-notify failed: systemd is not told that we are ready',
    );
}
