import assert from 'node:assert/strict';
import { test } from 'node:test';
import { acceptsNetwork, droppingChains, dropWarning, legacyDrops } from '../../../src/host/nft-foreign.ts';
import { countRules, isTableOf, ruledFamilies, rulesetText, tableName } from '../../../src/host/nft-rules.ts';
import { parsePrefix } from '../../../src/net/prefix.ts';

const V4 = { network: parsePrefix('10.246.0.0/16'), subnet: parsePrefix('10.246.30.0/24') };
const V6 = { network: parsePrefix('fd00:246::/48'), subnet: parsePrefix('fd00:246:0:f::/64') };
const BOTH = { forward: true, masquerade: true, fullyRandom: true };

test('the rules of IPv4 are those of flannel, in its order', () => {
  assert.equal(
    rulesetText('vtepd-default', BOTH, [V4]),
    `add table ip vtepd-default
delete table ip vtepd-default
table ip vtepd-default {
  chain forward {
    type filter hook forward priority 0; policy accept;
    ip saddr 10.246.0.0/16 accept
    ip daddr 10.246.0.0/16 accept
  }
  chain postrouting {
    type nat hook postrouting priority 100; policy accept;
    meta mark & 0x4000 == 0x4000 return
    ip saddr 10.246.30.0/24 ip daddr 10.246.0.0/16 return
    ip saddr 10.246.0.0/16 ip daddr 10.246.30.0/24 return
    ip saddr != 10.246.0.0/16 ip daddr 10.246.30.0/24 return
    ip saddr 10.246.0.0/16 ip daddr != 224.0.0.0/4 masquerade fully-random
    ip saddr != 10.246.0.0/16 ip daddr 10.246.0.0/16 masquerade fully-random
  }
}
`,
  );
});

test('with both families there is a table for each, in one transaction; multicast is that of the family', () => {
  const text = rulesetText('vtepd-default', { ...BOTH, fullyRandom: false }, [V4, V6]);
  assert.deepEqual(text.match(/^table .*$/gm), ['table ip vtepd-default {', 'table ip6 vtepd-default {']);
  assert.match(text, /^ {4}ip6 saddr fd00:246:0:f::\/64 ip6 daddr fd00:246::\/48 return$/m);
  assert.match(text, /^ {4}ip6 saddr fd00:246::\/48 ip6 daddr != ff00::\/8 masquerade$/m);
  assert.doesNotMatch(text, /fully-random/);
});

test('what is switched off has no chain, and with nothing wanted there is no table', () => {
  const forward = rulesetText('t', { ...BOTH, masquerade: false }, [V4]);
  assert.match(forward, /chain forward/);
  assert.doesNotMatch(forward, /postrouting|masquerade/);
  assert.doesNotMatch(rulesetText('t', { ...BOTH, forward: false }, [V4]), /chain forward/);
  const none = { ...BOTH, forward: false, masquerade: false };
  assert.equal(rulesetText('t', none, [V4, V6]), '');
  assert.deepEqual(ruledFamilies(none, [V4, V6]), []);
  assert.deepEqual(ruledFamilies(BOTH, [V6]), ['ip6']);
});

test('an instance has a table, and each of several networks one of its own', () => {
  assert.equal(tableName('default'), 'vtepd-default');
  assert.equal(tableName('default', 'blue-1'), 'vtepd-default/blue-1');
  for (const table of ['ip vtepd-default', 'ip6 vtepd-default', 'ip vtepd-default/blue'])
    assert.equal(isTableOf('default', table), true);
  for (const table of ['ip vtepd-default-2', 'ip vtepd-defaul', 'inet vtepd-default', 'ip filter'])
    assert.equal(isTableOf('default', table), false);
});

test('several pairs of networks can share a table', () => {
  const other = { network: parsePrefix('10.247.0.0/16'), subnet: parsePrefix('10.247.5.0/24') };
  const text = rulesetText(tableName('a.b'), BOTH, [V4, other]);
  assert.equal(text.match(/^table ip vtepd-a\.b /gm)?.length, 1);
  assert.equal(text.match(/0x4000 return/g)?.length, 1);
  assert.equal(text.match(/masquerade fully-random/g)?.length, 4);
});

const CHAINS = `table ip filter {
	chain INPUT {
		type filter hook input priority filter; policy drop;
	}
	chain FORWARD {
		type filter hook forward priority filter; policy drop;
	}
}
table inet firewall {
	chain fwd {
		type filter hook forward priority filter + 10; policy drop;
	}
	chain other {
	}
}
table ip6 filter {
	chain FORWARD {
		type filter hook forward priority filter; policy accept;
	}
}
`;

test('chains of others that drop forwarded packets are found, each for its families', () => {
  const inet = { table: 'inet firewall', name: 'fwd' };
  assert.deepEqual(droppingChains(CHAINS, 'ip'), [{ table: 'ip filter', name: 'FORWARD' }, inet]);
  assert.deepEqual(droppingChains(CHAINS, 'ip6'), [inet]);
  assert.deepEqual(droppingChains('', 'ip'), []);
});

test('a table that accepts both directions by itself is no trouble, one direction is not enough', () => {
  const from = '\t\tip saddr 10.246.0.0/16 counter packets 3 bytes 252 accept\n';
  const to = '\t\tip daddr 10.246.0.0/16 counter packets 3 bytes 252 accept\n';
  assert.equal(acceptsNetwork(from + to, '10.246.0.0/16'), true);
  assert.equal(acceptsNetwork(from, '10.246.0.0/16'), false);
  assert.equal(acceptsNetwork(from + to, '10.24.0.0/16'), false);
});

test("iptables' legacy variant: a policy that drops, unless its rules accept both directions", () => {
  const policy = '-P INPUT ACCEPT\n-P FORWARD DROP\n-P OUTPUT ACCEPT\n';
  const rules = '-A FORWARD -s 10.246.0.0/16 -j ACCEPT\n-A FORWARD -d 10.246.0.0/16 -m comment --comment x -j ACCEPT\n';
  assert.equal(legacyDrops(policy, '10.246.0.0/16'), true);
  assert.equal(legacyDrops(policy + rules, '10.246.0.0/16'), false);
  assert.equal(legacyDrops(policy + rules, '10.247.0.0/16'), true);
  assert.equal(legacyDrops('-P FORWARD ACCEPT\n', '10.246.0.0/16'), false);
});

test('the warning names the chain and, where it is iptables, the commands that help', () => {
  assert.match(
    dropWarning({ table: 'ip filter', name: 'FORWARD' }, '10.246.0.0/16'),
    /chain FORWARD of table ip filter .*; iptables -I FORWARD -s 10\.246\.0\.0\/16 -j ACCEPT; iptables -I FORWARD -d 10\.246\.0\.0\/16 -j ACCEPT$/,
  );
  assert.match(dropWarning({ table: 'inet firewall', name: 'fwd' }, '10.246.0.0/16'), /add rules to it that accept/);
});

test('rules are counted alike in our text and in what nft prints', () => {
  assert.equal(countRules(rulesetText('vtepd-default', BOTH, [V4])), 8);
  assert.equal(countRules(rulesetText('vtepd-default', BOTH, [V4, V6])), 16);
  assert.equal(countRules(`delete table ip6 vtepd-default\n${rulesetText('vtepd-default', BOTH, [V4])}`), 8);
  const printed = `# Warning: table ip filter is managed by iptables-nft, do not touch!
table ip vtepd-default {
\tchain forward {
\t\ttype filter hook forward priority filter; policy accept;
\t\tip saddr 10.246.0.0/16 accept
\t\tip daddr 10.246.0.0/16 accept
\t}

\tchain postrouting {
\t\ttype nat hook postrouting priority srcnat; policy accept;
\t}
}
`;
  assert.equal(countRules(printed), 2);
  assert.equal(countRules(''), 0);
});
