/** How an option of the command line is described: what it is called, whether it has a value, what the help says. */
export interface OptionSpec {
  /** Long name without dashes. */
  readonly name: string;
  /** One letter. */
  readonly short?: string;
  /** Name of the value in the help; a switch has none. */
  readonly value?: string;
  readonly repeatable?: boolean;
  readonly text: string;
  /** Left out of the help: refused by name, or an old spelling. */
  readonly hidden?: boolean;
}
