/** What `vtepd link show` prints of a network: the documented keys of `--json`, and a text in the manner of `ip -d link`. */
import type { NetworkState, OuterField } from '../dataplane/protocol.ts';
import { effective, LINK_DEFAULTS } from './link-options.ts';
import { reservedFromAccepted } from './link-reserved.ts';

export function toLinkRow(state: NetworkState) {
  const { spec } = state;
  return {
    name: spec.name,
    vni: spec.vni,
    owner: spec.owner,
    up: state.up,
    ifindex: state.ifindex,
    mac: state.mac,
    mtu: state.mtu,
    netns: spec.netns ?? null,
    local: spec.local ?? null,
    dev: spec.dev ?? null,
    remote: spec.remote ?? null,
    group: spec.group ?? null,
    port: spec.port,
    ttl: spec.ttl ?? LINK_DEFAULTS.ttl,
    tos: tosOf(spec.tos),
    df: spec.df ?? LINK_DEFAULTS.df,
    flowlabel: spec.flowlabel ?? LINK_DEFAULTS.flowlabel,
    srcport: spec.srcport ?? null,
    udpcsum: spec.udpcsum ?? LINK_DEFAULTS.udpcsum,
    udp6zerocsumtx: spec.udp6zerocsumtx ?? LINK_DEFAULTS.udp6zerocsumtx,
    udp6zerocsumrx: spec.udp6zerocsumrx ?? LINK_DEFAULTS.udp6zerocsumrx,
    learning: spec.learning,
    proxy: spec.proxy,
    proxy_flood: spec.proxy_flood ?? LINK_DEFAULTS.proxy_flood,
    peersonly: spec.peersonly,
    ...effective(spec),
    rsc: spec.rsc ?? LINK_DEFAULTS.rsc,
    gbp: spec.gbp ?? LINK_DEFAULTS.gbp,
    reserved_bits: reservedFromAccepted(spec.reserved_bits ?? LINK_DEFAULTS.reserved_bits),
    ageing: spec.ageing,
    maxaddress: spec.maxaddress,
    layer3: spec.layer3 ?? false,
    tunnel_address: spec.tunnel_address ?? null,
    queues: state.queues,
    revisions: state.revisions,
  };
}

type LinkRow = ReturnType<typeof toLinkRow>;

export function describeLink(row: LinkRow): string {
  if (row.layer3) return describeLayer3(row);
  const words = [`vxlan id ${row.vni}`];
  if (row.group !== null) words.push(`group ${row.group}`);
  if (row.remote !== null) words.push(`remote ${row.remote}`);
  if (row.local !== null) words.push(`local ${row.local}`);
  if (row.dev !== null) words.push(`dev ${row.dev}`);
  if (row.srcport !== null) words.push(`srcport ${row.srcport.min} ${row.srcport.max}`);
  words.push(`dstport ${row.port}`, row.learning ? 'learning' : 'nolearning', ...optionWords(row));
  words.push(`ageing ${row.ageing}`);
  if (row.maxaddress !== 0) words.push(`maxaddress ${row.maxaddress}`);
  if (row.maxperpeer !== 0) words.push(`maxperpeer ${row.maxperpeer}`);
  if (row.maxmoves !== 0) words.push(`maxmoves ${row.maxmoves}`);
  if (row.netns !== null) words.push(`netns ${row.netns}`);
  words.push(`queues ${row.queues}`, `owner ${row.owner}`);
  const flags = `BROADCAST,MULTICAST${row.up ? ',UP' : ''}`;
  return (
    `${row.ifindex}: ${row.name}: <${flags}> mtu ${row.mtu} state ${row.up ? 'UP' : 'DOWN'}\n` +
    `    link/ether ${row.mac}\n    ${words.join(' ')}\n`
  );
}

function describeLayer3(row: LinkRow): string {
  const words = ['udp', `tunnel-address ${row.tunnel_address ?? 'none'}`, `local ${row.local ?? 'any'}`];
  if (row.dev !== null) words.push(`dev ${row.dev}`);
  words.push(`port ${row.port}`);
  if (row.peersonly) words.push('peersonly');
  if (row.netns !== null) words.push(`netns ${row.netns}`);
  words.push(`queues ${row.queues}`, `owner ${row.owner}`);
  const flags = `POINTOPOINT,MULTICAST,NOARP${row.up ? ',UP' : ''}`;
  return (
    `${row.ifindex}: ${row.name}: <${flags}> mtu ${row.mtu} state ${row.up ? 'UP' : 'DOWN'}\n` +
    `    link/none\n    ${words.join(' ')}\n`
  );
}

/** Only what is not as \`ip link add\` makes it where nothing is said. */
function optionWords(row: LinkRow): string[] {
  const words: string[] = [];
  if (row.proxy) words.push('proxy');
  if (row.proxy_flood) words.push('proxy-flood');
  if (row.peersonly) words.push('peersonly');
  if (row.rsc) words.push('rsc');
  if (row.l2miss) words.push('l2miss');
  if (row.l3miss) words.push('l3miss');
  if (row.tos !== 0) words.push(`tos ${typeof row.tos === 'number' ? `0x${row.tos.toString(16)}` : row.tos}`);
  if (row.ttl !== LINK_DEFAULTS.ttl) words.push(`ttl ${row.ttl}`);
  if (row.df !== LINK_DEFAULTS.df) words.push(`df ${row.df}`);
  if (row.flowlabel !== 0) words.push(`flowlabel 0x${row.flowlabel.toString(16)}`);
  if (!row.udpcsum) words.push('noudpcsum');
  if (row.udp6zerocsumtx) words.push('udp6zerocsumtx');
  if (row.udp6zerocsumrx) words.push('udp6zerocsumrx');
  if (row.gbp) words.push('gbp');
  if (row.reserved_bits !== DEFAULT_RESERVED) words.push(`reserved_bits ${row.reserved_bits}`);
  return words;
}

const DEFAULT_RESERVED = reservedFromAccepted(LINK_DEFAULTS.reserved_bits);

function tosOf(tos: OuterField | undefined): OuterField {
  return tos === undefined || tos === 'auto' ? 0 : tos;
}
