/** `vtepd`: reads the command line, runs one command, ends with its exit status. */
import { dispatch } from './cli/dispatch.ts';

/** A reader such as `head` that has seen enough is no failure. */
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  process.exit(error.code === 'EPIPE' ? 0 : 1);
});

process.exitCode = await dispatch(process.argv.slice(2), {
  env: process.env,
  out: (text) => process.stdout.write(text),
  err: (text) => process.stderr.write(text),
});
