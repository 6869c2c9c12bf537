import { XlformersError } from '../errors';
import { maxPieceLength, maxScore } from './limits';

/** What a piece is for, by the numbers of `sentencepiece_model.proto`. */
export const PieceType = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;

export interface SentencePiece {
  text: string;
  /** Log probability, float32. */
  score: number;
  type: number;
}

/** The parts of a `spiece.model` that decide how text is split. */
export interface SentencePieceModel {
  pieces: SentencePiece[];
  /** 1 is unigram. */
  modelType: number;
  byteFallback: boolean;
  whitespaceAsSuffix: boolean;
  /** The compiled normalization table; empty when there is none. */
  charsMap: Uint8Array;
  addDummyPrefix: boolean;
  removeExtraWhitespaces: boolean;
  escapeWhitespaces: boolean;
}

const maxPieces = 2 ** 20;

/**
 * Reads a SentencePiece model (a protocol buffer, `ModelProto` of sentencepiece_model.proto); unknown fields are skipped.
 * @throws XlformersError ERR_TOKENIZER_PROTO saying where it is damaged
 */
export function parseSentencePieceModel(bytes: Uint8Array): SentencePieceModel {
  const model: SentencePieceModel = {
    pieces: [],
    modelType: 1,
    byteFallback: false,
    whitespaceAsSuffix: false,
    charsMap: new Uint8Array(0),
    addDummyPrefix: true,
    removeExtraWhitespaces: true,
    escapeWhitespaces: true,
  };
  const seen = new Set<string>();
  const reader = new MessageReader(bytes);
  while (reader.next()) {
    if (reader.field === 1) {
      if (model.pieces.length === maxPieces) reader.fail(`more than ${maxPieces} pieces`);
      const piece = parsePiece(reader.message());
      if (seen.has(piece.text)) reader.fail(`the piece '${piece.text}' appears twice`);
      seen.add(piece.text);
      model.pieces.push(piece);
    } else if (reader.field === 2) {
      parseTrainerSpec(reader.message(), model);
    } else if (reader.field === 3) {
      parseNormalizerSpec(reader.message(), model);
    } else {
      reader.skip();
    }
  }
  if (model.pieces.length === 0) reader.fail('no pieces');
  return model;
}

function parsePiece(reader: MessageReader): SentencePiece {
  const piece: SentencePiece = { text: '', score: 0, type: PieceType.normal };
  while (reader.next()) {
    if (reader.field === 1) piece.text = reader.string();
    else if (reader.field === 2) piece.score = reader.float();
    else if (reader.field === 3) piece.type = reader.varint();
    else reader.skip();
  }
  if (piece.text === '') reader.fail('an empty piece');
  if (piece.text.length > maxPieceLength) reader.fail(`a piece of more than ${maxPieceLength} characters`);
  if (!(Math.abs(piece.score) <= maxScore)) reader.fail(`the score of '${piece.text}' is ${piece.score}`);
  return piece;
}

function parseTrainerSpec(reader: MessageReader, model: SentencePieceModel): void {
  while (reader.next()) {
    if (reader.field === 3) model.modelType = reader.varint();
    else if (reader.field === 24) model.whitespaceAsSuffix = reader.varint() !== 0;
    else if (reader.field === 35) model.byteFallback = reader.varint() !== 0;
    else reader.skip();
  }
}

function parseNormalizerSpec(reader: MessageReader, model: SentencePieceModel): void {
  while (reader.next()) {
    if (reader.field === 2) model.charsMap = reader.bytes();
    else if (reader.field === 3) model.addDummyPrefix = reader.varint() !== 0;
    else if (reader.field === 4) model.removeExtraWhitespaces = reader.varint() !== 0;
    else if (reader.field === 5) model.escapeWhitespaces = reader.varint() !== 0;
    else reader.skip();
  }
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Fields of one protocol buffer message, in order. `next()` reads a tag; the caller then takes the value or skips it. */
class MessageReader {
  field = 0;
  private wireType = 0;
  private position = 0;

  constructor(
    private readonly data: Uint8Array,
    /** Where `data` begins in the file, for messages. */
    private readonly base = 0,
  ) {}

  next(): boolean {
    if (this.position === this.data.length) return false;
    const tag = this.rawVarint();
    this.wireType = tag % 8;
    this.field = (tag - this.wireType) / 8;
    if (this.field === 0 || this.field >= 2 ** 29) this.fail(`field number ${this.field}`);
    return true;
  }

  /** An integer, enumeration or boolean. */
  varint(): number {
    this.expect(0);
    return this.rawVarint();
  }

  float(): number {
    this.expect(5);
    const at = this.take(4);
    return new DataView(this.data.buffer, this.data.byteOffset + at, 4).getFloat32(0, true);
  }

  bytes(): Uint8Array {
    this.expect(2);
    const length = this.rawVarint();
    const at = this.take(length);
    return this.data.subarray(at, at + length);
  }

  string(): string {
    const bytes = this.bytes();
    try {
      return utf8.decode(bytes);
    } catch {
      return this.fail('a string that is not UTF-8');
    }
  }

  message(): MessageReader {
    const bytes = this.bytes();
    return new MessageReader(bytes, this.base + this.position - bytes.length);
  }

  skip(): void {
    if (this.wireType === 0) this.rawVarint();
    else if (this.wireType === 1) this.take(8);
    else if (this.wireType === 2) this.take(this.rawVarint());
    else if (this.wireType === 5) this.take(4);
    else this.fail(`wire type ${this.wireType}`);
  }

  fail(what: string): never {
    throw new XlformersError(
      'ERR_TOKENIZER_PROTO',
      `SentencePiece model: ${what}, before byte ${this.base + this.position}; the file is damaged, fetch it again`,
    );
  }

  private expect(wireType: number): void {
    if (this.wireType !== wireType) {
      this.fail(`field ${this.field} has wire type ${this.wireType}, expected ${wireType}`);
    }
  }

  private take(length: number): number {
    const at = this.position;
    if (length > this.data.length - at) this.fail(`a field of ${length} bytes where ${this.data.length - at} are left`);
    this.position = at + length;
    return at;
  }

  /** Up to ten bytes; what exceeds 2^53 loses low bits and fits no length, which is all that matters here. */
  private rawVarint(): number {
    let value = 0;
    for (let count = 0; count < 10; count += 1) {
      const byte = this.data[this.take(1)] as number;
      value += (byte & 0x7f) * 2 ** (7 * count);
      if (byte < 0x80) {
        if (count === 9 && byte > 1) break;
        return value;
      }
    }
    return this.fail('a number of more than 64 bits');
  }
}
