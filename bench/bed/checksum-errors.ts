/** What the kernel has counted as broken in a namespace: a tunnel that is fast because it sums wrongly is not fast. */

import { run } from './exec.ts';
import { inNamespace, LOAD_TOOL } from './load-tool.ts';
import type { End } from './pair.ts';

export async function checksumErrors(ends: readonly End[]): Promise<number> {
  const texts = ends.map((end) => run(LOAD_TOOL, inNamespace(end.netns, ['cat', '/proc/net/snmp'])));
  return (await Promise.all(texts)).reduce((sum, text) => sum + countChecksumErrors(text), 0);
}

/** Sum of all `InCsumErrors` in /proc/net/snmp, which has a line of names and a line of values for each protocol. */
export function countChecksumErrors(snmp: string): number {
  const lines = snmp.split('\n').map((line) => line.split(' '));
  return lines.reduce((sum, names, index) => {
    const column = names.indexOf('InCsumErrors');
    return column < 0 ? sum : sum + Number(lines[index + 1]?.[column] ?? 0);
  }, 0);
}
