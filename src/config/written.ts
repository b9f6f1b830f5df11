/** Values as they are written, before anybody has asked what they mean. */

/** With where. */
export interface Written {
  readonly values: readonly string[];
  readonly from: string;
}

/** A value of a settings file as texts; undefined unless it is a text, a number, true, false, or a list of those. */
export function textsOf(value: unknown): string[] | undefined {
  const values: unknown[] = Array.isArray(value) ? value : [value];
  const texts = values.flatMap((part) => (['string', 'number', 'boolean'].includes(typeof part) ? [String(part)] : []));
  return texts.length === values.length ? texts : undefined;
}
