import assert from 'node:assert/strict';
import { test } from 'node:test';
import { countChecksumErrors } from '../../../bench/bed/checksum-errors.ts';

test('checksum errors of all protocols are added up', () => {
  const snmp = [
    'Ip: Forwarding DefaultTTL InReceives',
    'Ip: 1 64 12',
    'Tcp: ActiveOpens InErrs OutRsts InCsumErrors',
    'Tcp: 7 3 1 2',
    'Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors IgnoredMulti',
    'Udp: 9 0 5 8 0 0 5 1',
    '',
  ].join('\n');
  assert.equal(countChecksumErrors(snmp), 7);
  assert.equal(countChecksumErrors(''), 0);
});
