import { XlformersError, type ErrorCode } from '../errors';

/** @throws XlformersError always */
export function refusePickle(code: ErrorCode, file: string, position: number, message: string): never {
  throw new XlformersError(code, `${file}: pickle, byte ${position}: ${message}`);
}

/** Numbers, lines and byte ranges of a pickle, never beyond its end. */
export class PickleReader {
  position = 0;

  constructor(
    readonly file: string,
    private readonly bytes: Uint8Array,
  ) {}

  get remaining(): number {
    return this.bytes.length - this.position;
  }

  take(count: number): Uint8Array {
    if (count > this.remaining) {
      refusePickle('ERR_PICKLE_TRUNCATED', this.file, this.position, `ends ${count - this.remaining} bytes early`);
    }
    const start = this.position;
    this.position += count;
    return this.bytes.subarray(start, this.position);
  }

  uint(byteCount: 1 | 2 | 4): number {
    const bytes = this.take(byteCount);
    let value = 0;
    for (let index = byteCount - 1; index >= 0; index -= 1) value = value * 256 + (bytes[index] as number);
    return value;
  }

  int32(): number {
    return this.uint(4) | 0;
  }

  /** A length of 8 bytes; larger ones than the file are cut short by `take`. */
  length64(): number {
    const low = this.uint(4);
    return this.uint(4) * 2 ** 32 + low;
  }

  /** Big-endian, as the opcode BINFLOAT has it. */
  float64(): number {
    const bytes = this.take(8);
    return new DataView(bytes.buffer, bytes.byteOffset, 8).getFloat64(0, false);
  }

  /** Two's complement, little-endian: a number where it is exact, else a bigint. */
  long(byteCount: number): number | bigint {
    if (byteCount > 1024) {
      refusePickle('ERR_PICKLE_LIMIT', this.file, this.position, `an integer of ${byteCount} bytes`);
    }
    const bytes = this.take(byteCount);
    let value = 0n;
    for (let index = byteCount - 1; index >= 0; index -= 1) value = value * 256n + BigInt(bytes[index] as number);
    if (byteCount > 0 && (bytes[byteCount - 1] as number) >= 128) value -= 1n << BigInt(8 * byteCount);
    return narrow(value);
  }

  /** Up to the next line feed, which is skipped. */
  line(): string {
    const end = this.bytes.indexOf(10, this.position);
    if (end < 0) refusePickle('ERR_PICKLE_TRUNCATED', this.file, this.position, 'a line without an end');
    const text = this.text(end - this.position);
    this.position += 1;
    return text;
  }

  text(byteCount: number): string {
    const start = this.position;
    try {
      return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(this.take(byteCount));
    } catch (error) {
      if (error instanceof XlformersError) throw error;
      return refusePickle('ERR_PICKLE_STACK', this.file, start, 'text that is not UTF-8');
    }
  }

  latin1(byteCount: number): string {
    return Buffer.from(this.take(byteCount)).toString('latin1');
  }
}

export function narrow(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}
