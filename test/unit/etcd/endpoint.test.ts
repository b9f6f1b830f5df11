import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseEndpoints } from '../../../src/datastore/etcd/endpoint.ts';

describe('etcd endpoints', () => {
  const read = (text: string, tls = false): string[] =>
    parseEndpoints([text], tls).map((e) => `${e.url} ${e.target} ${e.tls}`);

  it('are read as operators write them', () => {
    assert.deepEqual(read('http://127.0.0.1:4001,http://127.0.0.1:2379'), [
      'http://127.0.0.1:4001 ipv4:127.0.0.1:4001 false',
      'http://127.0.0.1:2379 ipv4:127.0.0.1:2379 false',
    ]);
    assert.deepEqual(read('https://etcd.example:2379/'), ['https://etcd.example:2379 dns:etcd.example:2379 true']);
    assert.deepEqual(read('http://[fd00::1]:2379'), ['http://[fd00::1]:2379 ipv6:[fd00::1]:2379 false']);
    assert.deepEqual(read(' 10.0.0.1:2379 , etcd2 '), [
      'http://10.0.0.1:2379 ipv4:10.0.0.1:2379 false',
      'http://etcd2:2379 dns:etcd2:2379 false',
    ]);
  });

  it('without a scheme speak TLS if certificate files are set', () => {
    assert.deepEqual(read('10.0.0.1:2379', true), ['https://10.0.0.1:2379 ipv4:10.0.0.1:2379 true']);
    assert.deepEqual(read('http://10.0.0.1:2379', true), ['http://10.0.0.1:2379 ipv4:10.0.0.1:2379 false']);
  });

  it('keep a port that is their scheme’s own, and have etcd’s by default', () => {
    assert.deepEqual(read('https://etcd:443'), ['https://etcd:443 dns:etcd:443 true']);
    assert.deepEqual(read('http://etcd:80'), ['http://etcd:80 dns:etcd:80 false']);
    assert.deepEqual(read('https://etcd'), ['https://etcd:2379 dns:etcd:2379 true']);
  });

  for (const [text, message] of [
    ['', /is empty/],
    [' , ', /is empty/],
    ['ftp://etcd:2379', /has the scheme ftp/],
    ['http://etcd:2379/v2/keys', /has a path/],
    ['http://etcd:99999', /is no endpoint/],
    ['http://user:secret@etcd:2379', /holds a password/],
  ] as const) {
    it(`${JSON.stringify(text)} is refused`, () => {
      assert.throws(() => read(text), { name: 'EtcdError', code: 'INVALID_ENDPOINT', message });
      assert.throws(
        () => read(text),
        (error: Error) => error.message.includes('--etcd-endpoints') && !error.message.includes('secret'),
      );
    });
  }
});
