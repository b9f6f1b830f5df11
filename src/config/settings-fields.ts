/** One setting at a time: from what is written to its value, with a complaint that says what it must be. */
import { z } from 'zod';
import { parseIp, parseIpv4, parseIpv6 } from '../net/ip.ts';
import { isUnicastMac, type Mac, parseMac, ZERO_MAC } from '../net/mac.ts';
import { checkDeviceName } from './device-name.ts';
import { parseGoRegexp } from './go-regexp.ts';
import { parseNetworkName } from './networks.ts';
import type { Written } from './written.ts';

/** By the settings' names; what is not written is absent. */
export type Data = z.output<typeof fields>;

/** Undefined, and more problems, if something cannot be read. */
export function validate(written: ReadonlyMap<string, Written>, problems: string[]): Data | undefined {
  const result = fields.safeParse(Object.fromEntries([...written].map(([name, { values }]) => [name, values])));
  if (result.success) return result.data;
  for (const issue of result.error.issues) {
    const name = String(issue.path[0] ?? '');
    const from = written.get(name)?.from;
    problems.push(from === undefined ? `${name}: ${issue.message}` : `${name} (${from}): ${issue.message}`);
  }
  return undefined;
}

/** The last of the values given. */
const one = z.array(z.string()).transform((values) => values.at(-1) ?? '');

function parsed<T>(parse: (text: string) => T) {
  return one.transform(complaining(parse));
}

function complaining<T>(parse: (text: string) => T) {
  return (text: string, context: z.RefinementCtx): T => {
    try {
      return parse(text);
    } catch (error) {
      context.addIssue({ code: 'custom', message: error instanceof Error ? error.message : String(error) });
      return z.NEVER;
    }
  };
}

const path = parsed((text) => {
  if (text === '') throw new Error('a path is needed');
  return text;
});

function integer(low: number, high: number) {
  return parsed((text) => {
    const value = /^[0-9]{1,9}$/.test(text) ? Number(text) : Number.NaN;
    if (!(value >= low && value <= high))
      throw new Error(`${JSON.stringify(text)} is not a number from ${low} to ${high}`);
    return value;
  });
}

function oneOf<const T extends string>(words: readonly T[]) {
  return parsed((text) => {
    const found = words.find((word) => word === text);
    if (found === undefined) throw new Error(`${JSON.stringify(text)} is not one of ${words.join(', ')}`);
    return found;
  });
}

/** As Go's strconv.ParseBool, by which flanneld reads its switches from the environment. */
const onOff = parsed((text) => {
  if (['1', 't', 'T', 'true', 'TRUE', 'True'].includes(text)) return true;
  if (['0', 'f', 'F', 'false', 'FALSE', 'False'].includes(text)) return false;
  throw new Error(`${JSON.stringify(text)} is not true or false`);
});

/** Several values, each of which may be a comma list. */
function list<T>(parse: (text: string) => T) {
  return z.array(z.string()).transform((values, context) => {
    const parts = values.flatMap((value) => value.split(',')).map((part) => part.trim());
    if (parts.length === 0) context.addIssue({ code: 'custom', message: 'at least one is needed' });
    return parts.flatMap((part) => {
      try {
        return [parse(part)];
      } catch (error) {
        context.addIssue({ code: 'custom', message: error instanceof Error ? error.message : String(error) });
        return [];
      }
    });
  });
}

function parseEndpoint(text: string): string {
  const expected = 'is not a URL such as http://10.245.1.2:2379';
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    throw new Error(`${JSON.stringify(text)} ${expected}`);
  }
  if (
    !/^https?:$/.test(url.protocol) ||
    url.hostname === '' ||
    !/^\/?$/.test(url.pathname) ||
    url.search !== '' ||
    url.username !== ''
  ) {
    throw new Error(`${JSON.stringify(text)} ${expected}`);
  }
  return text.replace(/\/$/, '');
}

function parseEtcdPrefix(text: string): string {
  const trimmed = text.replace(/\/+$/, '');
  if (trimmed === '' || trimmed.includes('//'))
    throw new Error(`${JSON.stringify(text)} is not a key such as /coreos.com/network`);
  return trimmed;
}

function parseDeviceMac(text: string): Mac {
  const mac = parseMac(text);
  if (!isUnicastMac(mac) || mac === ZERO_MAC) throw new Error(`${mac} cannot be the MAC of a device`);
  return mac;
}

function parseIface(text: string): string {
  if (text.includes(':')) return parseIpv6(text);
  return text.includes('.') && /^[0-9.]+$/.test(text) ? parseIpv4(text) : checkDeviceName(text);
}

function checkRegexp(text: string): string {
  parseGoRegexp(text);
  return text;
}

const fields = z.object({
  datastore: oneOf(['etcd', 'file', 'none']).optional(),
  file: path.optional(),
  'etcd-endpoints': list(parseEndpoint).optional(),
  'etcd-prefix': parsed(parseEtcdPrefix).optional(),
  'etcd-cafile': path.optional(),
  'etcd-certfile': path.optional(),
  'etcd-keyfile': path.optional(),
  'etcd-username': one.optional(),
  'etcd-password': one.optional(),
  'subnet-lease-renew-margin': integer(1, 1_439).optional(),
  iface: list(parseIface).optional(),
  'iface-regex': z.array(z.string().transform(complaining(checkRegexp))).optional(),
  'iface-can-reach': parsed(parseIp).optional(),
  'public-ip': parsed(parseIpv4).optional(),
  'public-ipv6': parsed(parseIpv6).optional(),
  'subnet-file': path.optional(),
  'ip-masq': onOff.optional(),
  'ip-masq-fully-random-disable': onOff.optional(),
  'ip-masq-random-fully': onOff.optional(),
  'iptables-forward-rules': onOff.optional(),
  'iptables-resync': integer(1, 3_600).optional(),
  'ip-blackhole-route': onOff.optional(),
  'healthz-ip': parsed(parseIp).optional(),
  'healthz-port': integer(0, 65_535).optional(),
  device: parsed(checkDeviceName).optional(),
  netns: path.optional(),
  mac: parsed(parseDeviceMac).optional(),
  networks: list(parseNetworkName).optional(),
  'route-mode': oneOf(['peer', 'network']).optional(),
  'take-over-lease': oneOf(['true', 'false']).optional(),
  'offline-start': oneOf(['true', 'false']).optional(),
  'log-level': oneOf(['fatal', 'error', 'warn', 'info', 'debug', 'trace']).optional(),
  v: integer(0, 100).optional(),
});
