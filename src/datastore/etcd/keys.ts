/** Where things lie in etcd. Only exact lease keys below `<prefix>/subnets/` are ever written. */

export interface KeyRange {
  readonly key: Buffer;
  readonly rangeEnd: Buffer;
}

export class Keys {
  readonly config: string;
  /** With its slash: without it the range would also hold `<prefix>/subnets-old/…`. */
  readonly subnets: string;

  constructor(prefix: string) {
    // flanneld takes the prefix as it is; a slash at its end or missing at its start is an operator's habit of v2.
    const clean = `/${prefix.replace(/^\/+|\/+$/g, '')}`;
    this.config = `${clean}/config`;
    this.subnets = `${clean}/subnets/`;
  }

  get subnetsRange(): KeyRange {
    return { key: Buffer.from(this.subnets), rangeEnd: prefixEnd(Buffer.from(this.subnets)) };
  }

  /** Key of the lease with this name. */
  lease(name: string): Buffer {
    return Buffer.from(this.subnets + name);
  }

  /** Name of a lease from its key. */
  nameOf(key: Buffer): string {
    return key.toString('utf8').slice(this.subnets.length);
  }
}

/** The first key after all that start with `prefix`: its last byte plus one (which `/` always has room for). */
function prefixEnd(prefix: Buffer): Buffer {
  const end = Buffer.from(prefix);
  end.writeUInt8(end.readUInt8(end.length - 1) + 1, end.length - 1);
  return end;
}
