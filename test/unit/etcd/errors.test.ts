import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  codeOfAnswer,
  EtcdError,
  type EtcdErrorCode,
  etcdError,
  isPassing,
} from '../../../src/datastore/etcd/errors.ts';

describe('etcd errors', () => {
  // Status and text as etcd 3.4 and 3.5 send them.
  const ANSWERS: readonly (readonly [number, string, EtcdErrorCode])[] = [
    [16, 'etcdserver: invalid auth token', 'TOKEN_INVALID'],
    [3, 'etcdserver: revision of auth store is old', 'TOKEN_INVALID'],
    [3, 'etcdserver: authentication failed, invalid user ID or password', 'AUTH_FAILED'],
    [3, 'etcdserver: user name is empty', 'AUTH_REQUIRED'],
    [9, 'etcdserver: authentication is not enabled', 'AUTH_DISABLED'],
    [7, 'etcdserver: permission denied', 'PERMISSION_DENIED'],
    [11, 'etcdserver: mvcc: required revision has been compacted', 'COMPACTED'],
    [11, 'etcdserver: mvcc: required revision is a future revision', 'ROLLED_BACK'],
    [5, 'etcdserver: requested lease not found', 'LEASE_NOT_FOUND'],
    [14, 'etcdserver: no leader', 'NO_LEADER'],
    [14, 'etcdserver: request timed out', 'UNAVAILABLE'],
    [8, 'etcdserver: mvcc: database space exceeded', 'NO_SPACE'],
    [14, 'No connection established. Last error: connect ECONNREFUSED 127.0.0.1:1', 'UNAVAILABLE'],
    [4, 'Deadline exceeded', 'TIMEOUT'],
    [13, 'Received RST_STREAM with code 2', 'UNAVAILABLE'],
    [12, 'unknown service etcdserverpb.KV', 'UNEXPECTED'],
  ];
  for (const [status, text, code] of ANSWERS) {
    it(`${status} ${text} is ${code}`, () => assert.equal(codeOfAnswer(status, text), code));
  }

  it('name the endpoint and what to do', () => {
    for (const code of [
      'UNAVAILABLE',
      'TIMEOUT',
      'NO_LEADER',
      'AUTH_FAILED',
      'AUTH_REQUIRED',
      'PERMISSION_DENIED',
    ] as const) {
      const { message } = etcdError(code, 'http://10.0.0.1:2379', 'etcdserver: text');
      assert.match(message, /http:\/\/10\.0\.0\.1:2379/);
      assert.match(message, /--etcd-/);
    }
  });

  it('tell what waiting may heal', () => {
    assert.ok(isPassing(new EtcdError('UNAVAILABLE', '')));
    assert.ok(isPassing(new EtcdError('AUTH_FAILED', '')));
    assert.ok(!isPassing(new EtcdError('TLS_FILES', '')));
    assert.ok(!isPassing(new EtcdError('NETWORK_FULL', '')));
    assert.ok(!isPassing(new Error('UNAVAILABLE')));
  });
});
