/** Bytes as tokens: 256 ids, any text or binary file, nothing to download. */
export class ByteLevelTokenizer {
  readonly vocabSize = 256;

  /** The UTF-8 bytes of the text. */
  encode(text: string): Int32Array {
    return Int32Array.from(Buffer.from(text, 'utf8'));
  }

  /** Text of these bytes; invalid UTF-8 becomes U+FFFD. */
  decode(ids: ArrayLike<number>): string {
    return Buffer.from(Uint8Array.from(ids)).toString('utf8');
  }

  /** A decoder for ids that arrive one by one: it holds back the bytes of an unfinished character. */
  stream(): { push(id: number): string; end(): string } {
    // As `decode`: a byte-order mark is text too.
    const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
    return {
      push: (id) => decoder.decode(Uint8Array.of(id), { stream: true }),
      end: () => decoder.decode(),
    };
  }
}
