import type { Template } from './encoding';
import { Tokenizer } from './tokenizer';
import type { Pipeline } from './pipeline';
import type { TokenSink } from './tokenSink';

/** Printable ASCII by itself, the rest in the notation of SentencePiece. */
const byteNames = Array.from({ length: 256 }, (_, byte) =>
  byte > 0x20 && byte < 0x7f ? String.fromCharCode(byte) : `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`,
);

const bytes: Pipeline = {
  encode(text: string, sink: TokenSink): void {
    const encoded = Buffer.from(text, 'utf8');
    for (let index = 0, at = 0; at < encoded.length;) {
      const code = text.codePointAt(index) as number;
      const end = index + (code > 0xffff ? 2 : 1);
      const length = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
      for (const last = at + length; at < last; at += 1) sink.push(encoded[at] as number, index, end);
      index = end;
    }
  },
  decode: (ids) => Buffer.from(Uint8Array.from(ids)).toString('utf8'),
};

const first: Template = [{ sequence: 0, typeId: 0 }];

/** Bytes as tokens: 256 ids, any text or binary file, nothing to download. Every byte has the range of its character as its offsets. */
export class ByteLevelTokenizer extends Tokenizer {
  protected readonly paddingSide = 'right';

  constructor() {
    super({
      pipeline: bytes,
      pieces: byteNames,
      addedTokens: [],
      single: first,
      pair: [...first, { sequence: 1, typeId: 1 }],
      oddToFirst: true,
    });
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

  /** Zero bytes, which `attentionMask` tells from those of the text. */
  protected get padding() {
    return { id: 0, typeId: 0 };
  }
}
