/** Where token ids and their ranges of the text are collected. */
export class TokenSink {
  count = 0;
  private idTable = new Int32Array(64);
  private spanTable = new Int32Array(128);

  /** Returns how many there are now. */
  push(id: number, start: number, end: number): number {
    this.reserve(1);
    this.idTable[this.count] = id;
    this.spanTable[2 * this.count] = start;
    this.spanTable[2 * this.count + 1] = end;
    this.count += 1;
    return this.count;
  }

  /** Tokens whose ranges are counted from `base`. */
  pushAll({ ids, spans }: WordTokens, base: number): void {
    const { length } = ids;
    this.reserve(length);
    const { idTable, spanTable } = this;
    let at = this.count;
    for (let index = 0; index < length; index += 1, at += 1) {
      idTable[at] = ids[index] as number;
      spanTable[2 * at] = base + (spans[2 * index] as number);
      spanTable[2 * at + 1] = base + (spans[2 * index + 1] as number);
    }
    this.count = at;
  }

  /** A copy for the cache: plain arrays, which take less memory than typed ones where they are short. */
  wordTokens(): WordTokens {
    return {
      ids: Array.from(this.idTable.subarray(0, this.count)),
      spans: Array.from(this.spanTable.subarray(0, 2 * this.count)),
    };
  }

  lastId(): number {
    return this.idTable[this.count - 1] as number;
  }

  /** Views of the tables: good until more is pushed. */
  tokens(): Tokens {
    return { ids: this.idTable.subarray(0, this.count), spans: this.spanTable.subarray(0, 2 * this.count) };
  }

  private reserve(more: number): void {
    const needed = this.count + more;
    if (needed <= this.idTable.length) return;
    const capacity = needed < 2 ** 24 ? 2 * needed : Math.ceil(1.25 * needed);
    const idTable = new Int32Array(capacity);
    idTable.set(this.idTable);
    this.idTable = idTable;
    const spanTable = new Int32Array(2 * capacity);
    spanTable.set(this.spanTable);
    this.spanTable = spanTable;
  }
}

/** The tokens of a word. */
export interface WordTokens {
  ids: readonly number[];
  spans: readonly number[];
}

/** The tokens of a text. */
export interface Tokens {
  ids: Int32Array;
  /** Two per token: the UTF-16 range of the text. */
  spans: Int32Array;
}
