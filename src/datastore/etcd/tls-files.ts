/**
 * Certificate files. They are read when a channel is built and polled by `stat`, because certificates are renewed under
 * a running daemon, often by rename or by switching a symbolic link, which inotify on the file would miss.
 */
import { readFileSync, statSync } from 'node:fs';
import { checkServerIdentity, createSecureContext } from 'node:tls';
import { ChannelCredentials } from '@grpc/grpc-js';
import type { Endpoint } from './endpoint.ts';
import { EtcdError } from './errors.ts';

export interface TlsFiles {
  readonly caFile?: string | undefined;
  readonly certFile?: string | undefined;
  readonly keyFile?: string | undefined;
}

/** What was read from the files: null where none is set, and the system's authorities then judge the server. */
export interface TlsMaterial {
  readonly ca: Buffer | null;
  readonly cert: Buffer | null;
  readonly key: Buffer | null;
}

export const NO_TLS_MATERIAL: TlsMaterial = { ca: null, cert: null, key: null };

export function hasTlsFiles(files: TlsFiles): boolean {
  return files.caFile !== undefined || files.certFile !== undefined || files.keyFile !== undefined;
}

/** Reads and tries the files: a missing one, half a write, or a key of another certificate throws `TLS_FILES`. */
export function readTlsFiles(files: TlsFiles): TlsMaterial {
  if ((files.certFile === undefined) !== (files.keyFile === undefined)) {
    const [set, missing] = files.certFile === undefined ? ['keyfile', 'certfile'] : ['certfile', 'keyfile'];
    throw new EtcdError('TLS_FILES', `--etcd-${set} is set without --etcd-${missing}: a client certificate needs both`);
  }
  const material: TlsMaterial = {
    ca: read('--etcd-cafile', files.caFile),
    cert: read('--etcd-certfile', files.certFile),
    key: read('--etcd-keyfile', files.keyFile),
  };
  try {
    createSecureContext({
      ca: material.ca ?? undefined,
      cert: material.cert ?? undefined,
      key: material.key ?? undefined,
    });
  } catch (cause) {
    const names = [files.caFile, files.certFile, files.keyFile].filter((name) => name !== undefined).join(', ');
    throw new EtcdError(
      'TLS_FILES',
      `certificate files ${names} cannot be used (${textOf(cause)}); check that they are PEM and belong together`,
      { cause },
    );
  }
  return material;
}

/** A text that changes whenever one of the files does. A file that is not there counts as a state of its own. */
export function tlsFingerprint(files: TlsFiles): string {
  return [files.caFile, files.certFile, files.keyFile]
    .map((name) => {
      if (name === undefined) return '-';
      const stat = statSync(name, { bigint: true, throwIfNoEntry: false });
      return stat === undefined ? 'absent' : `${stat.dev}.${stat.ino}.${stat.size}.${stat.mtimeNs}`;
    })
    .join(' ');
}

export function credentialsFor(endpoint: Endpoint, material: TlsMaterial): ChannelCredentials {
  if (!endpoint.tls) return ChannelCredentials.createInsecure();
  const { address } = endpoint;
  if (address === undefined) return ChannelCredentials.createSsl(material.ca, material.key, material.cert);
  return ChannelCredentials.createSsl(material.ca, material.key, material.cert, {
    checkServerIdentity: (_name, certificate) => checkServerIdentity(address, certificate),
  });
}

/**
 * Channel options that belong to TLS. RFC 6066 section 3 allows no address as server name, and Node warns (DEP0123) or
 * refuses; gRPC would send it nevertheless, so an endpoint with an address gets a neutral name, and
 * `credentialsFor` verifies the address.
 */
export function tlsChannelOptions(endpoint: Endpoint): { 'grpc.ssl_target_name_override'?: string } {
  return endpoint.tls && endpoint.address !== undefined ? { 'grpc.ssl_target_name_override': 'etcd' } : {};
}

function read(flag: string, name: string | undefined): Buffer | null {
  if (name === undefined) return null;
  try {
    return readFileSync(name);
  } catch (cause) {
    throw new EtcdError(
      'TLS_FILES',
      `${flag}: ${name} cannot be read (${textOf(cause)}); check the path and its rights`,
      { cause },
    );
  }
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
