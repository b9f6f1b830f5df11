/** The hosts file, read once, for commands that only look at it. */
import { readTextFile } from '../datastore/file/file-reader.ts';
import { type HostsTable, readHostsTable } from '../datastore/file/hosts-table.ts';
import { CommandError } from './errors.ts';

/** As the daemon's limit. */
const FILE_BYTES_MAX = 16 * 1024 * 1024;

export async function readHosts(path: string): Promise<HostsTable> {
  const content = await readTextFile(path, FILE_BYTES_MAX);
  if (content === undefined) throw new CommandError('EAGAIN', `${path} was written to while it was read; try again`);
  if (content.type === 'missing') throw new CommandError('ENOENT', `${path} does not exist`);
  if (content.type === 'unreadable') throw new CommandError('HOSTS_FILE_UNREADABLE', content.reason);
  return readHostsTable(content.text, path);
}
