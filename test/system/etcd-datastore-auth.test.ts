/** The etcd datastore with users and tokens, and with certificates made here by openssl. */
import assert from 'node:assert/strict';
import { copyFile, rename } from 'node:fs/promises';
import { after, afterEach, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Certificates, withoutOpenssl } from './lib/certificates.ts';
import { type EtcdServer, startEtcd, withoutEtcd } from './lib/etcd.ts';
import { EtcdHost, flannelValue, NEVER, ownValue } from './lib/etcd-host.ts';
import { eventually, run } from './lib/exec.ts';
import { TcpProxy } from './lib/tcp-proxy.ts';

const skip = await withoutEtcd();
const NETWORK = '{"Network":"10.246.0.0/16","Backend":{"Type":"vxlan"}}';
const LONG = { timeoutMs: 60_000 };
const ROOT = 'root-secret';
/** Short enough that a token dies within a test. */
const TOKEN_TTL = 2;

/** Ended after each test, last first. */
const made: { stop(): Promise<void> }[] = [];
afterEach(async () => {
  for (const thing of made.splice(0).reverse()) await thing.stop();
});

function hostAt(endpoints: string[], options: object = {}): EtcdHost {
  const host = new EtcdHost({ endpoints, prefix: '/net', ...options });
  made.push(host);
  return host;
}

describe('etcd datastore with users', { skip, concurrency: false, timeout: 300_000 }, () => {
  /** An etcd with the user `vtepd` who may do what it wants below /net/ and nothing else. */
  async function etcdWithUser(): Promise<EtcdServer> {
    const etcd = await startEtcd({ rootPassword: ROOT, args: [`--auth-token-ttl=${TOKEN_TTL}`, '--bcrypt-cost=4'] });
    made.push(etcd);
    await etcd.ctl('role', 'add', 'network');
    await etcd.ctl('role', 'grant-permission', 'network', 'readwrite', '--prefix=true', '/net/');
    await etcd.ctl('user', 'add', 'vtepd:secret');
    await etcd.ctl('user', 'grant-role', 'vtepd', 'network');
    await etcd.put('/net/config', NETWORK);
    return etcd;
  }
  const USER = { username: 'vtepd', password: 'secret' };

  it('a user with rights on the prefix alone is enough, also after the token has expired', async () => {
    const etcd = await etcdWithUser();
    const proxy = await TcpProxy.start(etcd.address, etcd.port);
    made.push(proxy);
    const host = await hostAt([proxy.endpoint], { ...USER, leaseTtlSeconds: 3 }).watchFromSnapshot();
    const lease = await host.join('10.245.1.3');
    for (let round = 0; round < 2; round += 1) {
      await sleep((TOKEN_TTL + 1) * 1000);
      const before = host.events.length;
      // The token is now unknown to etcd; the watch that resumes and every call must get a new one.
      proxy.cut();
      await etcd.put(`/net/subnets/10.246.${200 + round}.0-24`, flannelValue(`10.245.1.${100 + round}`));
      await eventually(
        'event after the token expired',
        async () => host.leases.has(`10.246.${200 + round}.0-24`),
        LONG,
      );
      assert.equal(
        host.events.slice(before).some((event) => event.type === 'snapshot'),
        false,
        'no event lost, no new listing',
      );
    }
    assert.equal(host.count('lease-lost'), 0);
    assert.equal(await etcd.get(`/net/subnets/${lease.key}`), ownValue('10.245.1.3'));
    await etcd.ctl('del', `/net/subnets/${lease.key}`);
    await host.seen('lease-regained', LONG);
  });

  it('users edited meanwhile (the token is older than the auth store): goes on', async () => {
    const etcd = await etcdWithUser();
    const host = await hostAt([etcd.endpoint], USER).watchFromSnapshot();
    const lease = await host.join('10.245.1.3');
    await etcd.ctl('user', 'add', 'somebody:else');
    await etcd.ctl('del', `/net/subnets/${lease.key}`);
    assert.deepEqual((await host.seen('lease-regained', LONG)).lease, lease);
  });

  it('a wrong password is told with its flag and hardly repeated', async () => {
    const etcd = await etcdWithUser();
    const host = hostAt([etcd.endpoint], { username: 'vtepd', password: 'wrong' }).watch();
    const config = host.datastore.config(AbortSignal.timeout(6_000));
    const stale = await host.seen('stale', LONG);
    assert.match(stale.reason, /refuses the user or the password.*--etcd-password/);
    await assert.rejects(config, { name: 'TimeoutError' });
    assert.equal(host.log.match(/nextTrySeconds/g)?.length, 1, 'one try in 6 s');
    assert.ok(!host.log.includes('wrong'), 'the password is in no log');
  });

  it('no user where one is needed: told with the flag to set', async () => {
    const etcd = await etcdWithUser();
    const host = hostAt([etcd.endpoint]).watch();
    assert.match((await host.seen('stale', LONG)).reason, /--etcd-username/);
  });

  it('no right to the prefix: told with the flag to look at', async () => {
    const etcd = await etcdWithUser();
    const host = new EtcdHost({ endpoints: [etcd.endpoint], prefix: '/other', ...USER }).watch();
    made.push(host);
    assert.match((await host.seen('stale', LONG)).reason, /denies access.*--etcd-prefix/);
  });

  it('a user where etcd has none: goes on without, and authenticates when users are enabled', async () => {
    const etcd = await startEtcd({ args: ['--bcrypt-cost=4'] });
    made.push(etcd);
    await etcd.put('/net/config', NETWORK);
    const host = await hostAt([etcd.endpoint], { username: 'root', password: ROOT }).watchFromSnapshot();
    const lease = await host.join('10.245.1.3');
    assert.match(host.log, /authentication switched off/);
    await etcd.ctl('user', 'add', `root:${ROOT}`);
    await etcd.ctl('user', 'grant-role', 'root', 'root');
    await etcd.ctl('auth', 'enable');
    await etcd.ctl(`--user=root:${ROOT}`, 'del', `/net/subnets/${lease.key}`);
    assert.deepEqual((await host.seen('lease-regained', LONG)).lease, lease);
  });
});

const withoutTls = skip || (await withoutOpenssl());

describe('etcd datastore over TLS', { skip: withoutTls, concurrency: false, timeout: 300_000 }, () => {
  let certificates: Certificates;
  const file = (name: string): string => certificates.file(name);

  before(async () => {
    certificates = await Certificates.make();
    await certificates.authority('ca');
    await certificates.authority('other-ca');
    await certificates.certificate('server', 'ca', 'subjectAltName=IP:127.0.0.1,DNS:localhost');
    await certificates.certificate('elsewhere', 'ca', 'subjectAltName=IP:192.0.2.1');
    await certificates.certificate('client', 'ca', 'extendedKeyUsage=clientAuth');
    await certificates.certificate('client-2', 'ca', 'extendedKeyUsage=clientAuth');
    await certificates.certificate('stranger', 'other-ca', 'extendedKeyUsage=clientAuth');
  });
  after(() => certificates?.remove());

  async function tlsEtcd(cert: string, clientAuth: boolean): Promise<EtcdServer> {
    const tls = { ca: file('ca.pem'), cert: file(`${cert}.pem`), key: file(`${cert}.key`), clientAuth };
    const etcd = await startEtcd({ tls });
    made.push(etcd);
    return etcd;
  }

  it('with the authority alone, by address and by name, and without a word of Node on stderr', async () => {
    const etcd = await tlsEtcd('server', false);
    await etcd.put('/net/config', NETWORK);
    const warnings: Error[] = [];
    const listen = (warning: Error): void => void warnings.push(warning);
    process.on('warning', listen);
    for (const endpoint of [etcd.endpoint, `https://localhost:${etcd.port}`, `127.0.0.1:${etcd.port}`]) {
      const host = hostAt([endpoint], { caFile: file('ca.pem') });
      assert.equal((await host.datastore.config(NEVER)).network, '10.246.0.0/16');
    }
    process.off('warning', listen);
    assert.deepEqual(warnings, []);
  });

  it('a server of another authority, or with a certificate for another address, is not spoken to', async () => {
    const etcd = await tlsEtcd('server', false);
    const distrusting = hostAt([etcd.endpoint], { caFile: file('other-ca.pem') }).watch();
    assert.match((await distrusting.seen('stale', LONG)).reason, /certificate/);
    const elsewhere = await startEtcdWithoutClient('elsewhere');
    const mistaken = hostAt([elsewhere.endpoint], { caFile: file('ca.pem') }).watch();
    assert.match((await mistaken.seen('stale', LONG)).reason, /127\.0\.0\.1.*192\.0\.2\.1/);
  });

  async function startEtcdWithoutClient(cert: string): Promise<EtcdServer> {
    return tlsEtcd(cert, false);
  }

  it('with a client certificate; files replaced under way are used without a loss', async () => {
    const etcd = await tlsEtcdWithClients();
    await copyFile(file('client.pem'), file('live.pem'));
    await copyFile(file('client.key'), file('live.key'));
    const tls = { caFile: file('ca.pem'), certFile: file('live.pem'), keyFile: file('live.key') };
    const host = await hostAt([etcd.endpoint], tls).watchFromSnapshot();
    const lease = await host.join('10.245.1.3');
    // Half of a change: the key does not belong to the certificate. What was read before stays in use.
    await replace('client-2.pem', 'live.pem');
    await eventually('half a change refused', async () => host.log.includes('cannot be used'), LONG);
    await replace('client-2.key', 'live.key');
    await eventually('channel rebuilt', async () => host.log.includes('is rebuilt'), LONG);
    await ctl(etcd, 'put', '/net/subnets/10.246.99.0-24', flannelValue('10.245.1.99'));
    await eventually('watch goes on', async () => host.leases.has('10.246.99.0-24'), LONG);
    assert.equal(host.snapshots, 1);
    assert.equal(host.count('lease-lost'), 0);
    assert.equal(host.count('stale'), 0);
    assert.ok(host.leases.has(lease.key));
  });

  it('a client certificate of another authority, or none, is refused with a reason', async () => {
    const etcd = await tlsEtcdWithClients();
    const stranger = { caFile: file('ca.pem'), certFile: file('stranger.pem'), keyFile: file('stranger.key') };
    assert.match((await hostAt([etcd.endpoint], stranger).watch().seen('stale', LONG)).reason, /cannot be reached/);
    assert.match(
      (
        await hostAt([etcd.endpoint], { caFile: file('ca.pem') })
          .watch()
          .seen('stale', LONG)
      ).reason,
      /cannot be reached/,
    );
  });

  it('files that cannot be used are refused at once, by their flag', async () => {
    const config = (options: object): Promise<unknown> =>
      hostAt(['https://127.0.0.1:1'], options).datastore.config(NEVER);
    const missing = { caFile: file('absent.pem') };
    await assert.rejects(config(missing), { code: 'TLS_FILES', message: /--etcd-cafile.*absent\.pem/ });
    await assert.rejects(config({ certFile: file('client.pem') }), { code: 'TLS_FILES', message: /--etcd-keyfile/ });
    const mixed = { certFile: file('client.pem'), keyFile: file('client-2.key') };
    await assert.rejects(config(mixed), { code: 'TLS_FILES', message: /belong together/ });
  });

  const CLIENT = (): string[] => [
    `--cacert=${file('ca.pem')}`,
    `--cert=${file('client.pem')}`,
    `--key=${file('client.key')}`,
  ];
  async function ctl(etcd: EtcdServer, ...args: string[]): Promise<void> {
    await run(['etcdctl', `--endpoints=${etcd.endpoint}`, ...CLIENT(), ...args], { env: { ETCDCTL_API: '3' } });
  }
  async function tlsEtcdWithClients(): Promise<EtcdServer> {
    const etcd = await tlsEtcd('server', true);
    await ctl(etcd, 'put', '/net/config', NETWORK);
    return etcd;
  }
  async function replace(from: string, to: string): Promise<void> {
    await copyFile(file(from), file(`${to}.new`));
    await rename(file(`${to}.new`), file(to));
  }
});
