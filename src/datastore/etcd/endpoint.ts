/** Endpoints as operators write them: `http://10.0.0.1:2379`, `https://etcd.example:2379`, `10.0.0.1:2379`. */
import { isIP, isIPv6 } from 'node:net';
import { EtcdError } from './errors.ts';

export interface Endpoint {
  /** As it is shown to people: with its scheme. */
  readonly url: string;
  /** gRPC target. The scheme (`ipv4`, `ipv6`, `dns`) keeps gRPC from guessing. */
  readonly target: string;
  readonly tls: boolean;
  /** Set if the host is an address: TLS then verifies it against the certificate's IP names and sends no SNI of it. */
  readonly address: string | undefined;
}

const DEFAULT_PORT = 2379;

/** Reads a list of endpoints. One without a scheme speaks TLS if certificate files are set. Throws `EtcdError`. */
export function parseEndpoints(texts: readonly string[], tlsIfBare: boolean): Endpoint[] {
  const endpoints = texts
    .flatMap((text) => text.split(','))
    .map((text) => text.trim())
    .filter((text) => text !== '')
    .map((text) => parseEndpoint(text, tlsIfBare));
  if (endpoints.length === 0) {
    throw new EtcdError(
      'INVALID_ENDPOINT',
      '--etcd-endpoints is empty: write one or more, such as http://127.0.0.1:2379',
    );
  }
  return endpoints;
}

function parseEndpoint(text: string, tlsIfBare: boolean): Endpoint {
  const bare = !text.includes('://');
  const url = tryUrl(bare ? `${tlsIfBare ? 'https' : 'http'}://${text}` : text);
  if (url === undefined) throw invalid(text, 'is no endpoint');
  if (url.protocol !== 'http:' && url.protocol !== 'https:')
    throw invalid(text, `has the scheme ${url.protocol.slice(0, -1)}`);
  if ((url.pathname !== '/' && url.pathname !== '') || url.search !== '' || url.hash !== '')
    throw invalid(text, 'has a path');
  if (url.username !== '' || url.password !== '') {
    throw new EtcdError(
      'INVALID_ENDPOINT',
      '--etcd-endpoints holds a password: give it with --etcd-username and --etcd-password',
    );
  }
  const tls = url.protocol === 'https:';
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1');
  // URL leaves out the scheme's own port (80, 443) and a port that is not there alike: read it from the text.
  const port = url.port === '' ? portInText(text, tls) : Number(url.port);
  const shown = isIPv6(host) ? `[${host}]:${port}` : `${host}:${port}`;
  const kind = isIP(host);
  return {
    url: `${tls ? 'https' : 'http'}://${shown}`,
    target: `${kind === 4 ? 'ipv4' : kind === 6 ? 'ipv6' : 'dns'}:${shown}`,
    tls,
    address: kind === 0 ? undefined : host,
  };
}

function portInText(text: string, tls: boolean): number {
  if (/:443\/?$/.test(text) && tls) return 443;
  if (/:80\/?$/.test(text) && !tls) return 80;
  return DEFAULT_PORT;
}

function tryUrl(text: string): URL | undefined {
  try {
    return new URL(text);
  } catch {
    return undefined;
  }
}

function invalid(text: string, what: string): EtcdError {
  return new EtcdError(
    'INVALID_ENDPOINT',
    `--etcd-endpoints: ${JSON.stringify(text)} ${what}: write http://host:port or https://host:port`,
  );
}
