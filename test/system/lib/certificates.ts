/** Certificates made by openssl, in a directory of their own. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { run, tryRun } from './exec.ts';

const KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];

/** False if certificates can be made here, else why not; for node:test's `skip`. In CI a missing tool is a failure. */
export async function withoutOpenssl(): Promise<string | false> {
  if (process.env.CI) return false;
  const found = await tryRun(['openssl', 'version']).catch(() => undefined);
  return found?.status === 0 ? false : 'openssl is not installed';
}

export class Certificates {
  readonly #dir: string;

  private constructor(dir: string) {
    this.#dir = dir;
  }

  static async make(): Promise<Certificates> {
    return new Certificates(await mkdtemp(join(tmpdir(), 'vtepd-tls-')));
  }

  /** Path of `ca.pem`, `server.key`, and so on. */
  file(name: string): string {
    return join(this.#dir, name);
  }

  async authority(name: string): Promise<void> {
    const files = ['-keyout', this.file(`${name}.key`), '-out', this.file(`${name}.pem`)];
    await run(['openssl', 'req', '-x509', ...KEY, '-days', '2', '-subj', `/CN=${name}`, ...files]);
  }

  /** A certificate of the authority; `extension` is what it is for, as openssl's configuration says it. */
  async certificate(name: string, authority: string, extension: string): Promise<void> {
    const [key, csr, pem, ext] = ['key', 'csr', 'pem', 'ext'].map((kind) => this.file(`${name}.${kind}`)) as [
      string,
      string,
      string,
      string,
    ];
    await run(['openssl', 'req', ...KEY, '-subj', `/CN=${name}`, '-keyout', key, '-out', csr]);
    await writeFile(ext, `${extension}\n`);
    const signer = ['-CA', this.file(`${authority}.pem`), '-CAkey', this.file(`${authority}.key`), '-CAcreateserial'];
    await run(['openssl', 'x509', '-req', '-days', '2', '-in', csr, ...signer, '-extfile', ext, '-out', pem]);
  }

  remove(): Promise<void> {
    return rm(this.#dir, { recursive: true, force: true });
  }
}
