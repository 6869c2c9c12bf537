import { XlformersError, argumentError, describe } from '../errors';
import {
  type BatchOptions,
  type EncodedBatch,
  type PaddingSide,
  type PaddingValues,
  layOut,
  layoutOptions,
} from './batch';
import { Encoding, type Truncation, fillTemplate, requireRoom, templateLength, truncate } from './encoding';
import { maxTextLength } from './limits';
import { type Tokens, TokenSink } from './tokenSink';
import type { TokenizerParts } from './tokenizerParts';

/** Options of `encode`. */
export interface EncodeOptions {
  /** A second text, which follows the first as the model expects it. */
  pair?: string;
  /** Default true. */
  addSpecialTokens?: boolean;
  /** `true` or 'longestFirst', 'onlyFirst', 'onlySecond': drops tokens at the end of the texts to reach `maxLength`. Default false. */
  truncation?: boolean | Truncation;
  /** In tokens, special tokens included. */
  maxLength?: number;
}

export interface DecodeOptions {
  /** Leaves out special tokens: `<sep>`, `<cls>`, `<pad>`, `<eos>` and the like. Default false. */
  skipSpecialTokens?: boolean;
}

/** A text, or two that belong together. */
export type TextOrPair = string | readonly [text: string, pair: string];

/** What a text goes through. */
export type TextPath = Pick<TokenizerParts, 'pipeline' | 'single' | 'pair'>;

/** From text to ids and back, whatever the vocabulary. */
export abstract class Tokenizer {
  /** Number of ids, added tokens included. */
  readonly vocabSize: number;
  protected readonly idOf: ReadonlyMap<string, number>;
  private readonly specialIds: ReadonlySet<number>;

  protected constructor(protected readonly parts: TokenizerParts) {
    this.vocabSize = parts.pieces.length;
    this.idOf = new Map(parts.pieces.map((piece, id) => [piece, id]));
    this.specialIds = new Set(parts.addedTokens.filter(({ special }) => special).map(({ id }) => id));
  }

  /** Where rows of a batch are filled up when the caller does not say. */
  protected abstract readonly paddingSide: PaddingSide;

  /** With what. @throws XlformersError ERR_TOKENIZER_ID where the vocabulary has nothing for it */
  protected abstract get padding(): PaddingValues;

  /** The id of a token by its text in the vocabulary; undefined when the vocabulary lacks it. */
  tokenToId(token: string): number | undefined {
    return this.idOf.get(token);
  }

  /** @throws XlformersError ERR_TOKEN_ID */
  idToToken(id: number): string {
    return this.parts.pieces[requireId(id, 0, this.vocabSize)] as string;
  }

  /**
   * The tokens of a text or of a pair of texts. Lone surrogates count as U+FFFD.
   * @throws XlformersError ERR_ARG_TYPE, ERR_CONFIG; ERR_ARG_RANGE when `maxLength` cannot be reached
   */
  encode(text: string, options: EncodeOptions = {}): Encoding {
    return this.encodeBy(this.parts, text, options);
  }

  /**
   * Texts, or pairs of texts, as int32 tensors [batch, length].
   * @throws XlformersError ERR_ARG_TYPE, ERR_ARG_SHAPE, ERR_CONFIG, ERR_ARG_RANGE
   */
  encodeBatch(texts: readonly TextOrPair[], options: BatchOptions = {}): EncodedBatch {
    return this.encodeBatchBy(this.parts, texts, options);
  }

  /** @throws XlformersError ERR_TOKEN_ID naming the index of an id that the vocabulary does not have */
  decode(ids: ArrayLike<number>, { skipSpecialTokens = false }: DecodeOptions = {}): string {
    const checked = Array.from({ length: ids.length }, (_, index) => requireId(ids[index], index, this.vocabSize));
    return this.parts.pipeline.decode(skipSpecialTokens ? checked.filter((id) => !this.specialIds.has(id)) : checked);
  }

  protected encodeBy(path: TextPath, text: string, options: EncodeOptions): Encoding {
    const { pair, addSpecialTokens = true, ...layout } = options;
    const { truncation, maxLength } = layoutOptions(layout, this.paddingSide);
    return this.encodeTexts(path, pair === undefined ? [text] : [text, pair], addSpecialTokens, truncation, maxLength);
  }

  protected encodeBatchBy(path: TextPath, texts: readonly TextOrPair[], options: BatchOptions): EncodedBatch {
    const { device, addSpecialTokens = true, ...given } = options;
    if (!Array.isArray(texts) || texts.length === 0)
      throw argumentError('ERR_ARG_TYPE', 'texts', texts, 'an array of one text or more');
    const layout = layoutOptions(given, this.paddingSide);
    const rows = (texts as typeof texts).map((row) =>
      this.encodeTexts(
        path,
        typeof row === 'string' ? [row] : row,
        addSpecialTokens,
        layout.truncation,
        layout.maxLength,
      ),
    );
    return layOut(rows, layout, this.padding, device);
  }

  protected requiredId(token: string): number {
    const id = this.idOf.get(token);
    if (id === undefined) throw new XlformersError('ERR_TOKENIZER_ID', `the vocabulary has no token '${token}'`);
    return id;
  }

  private encodeTexts(
    { pipeline, single, pair }: TextPath,
    texts: readonly string[],
    addSpecialTokens: boolean,
    truncation: boolean | Truncation,
    maxLength: number,
  ): Encoding {
    const { pieces, oddToFirst } = this.parts;
    if (!Array.isArray(texts) || texts.length < 1 || texts.length > 2) {
      throw argumentError('ERR_ARG_TYPE', 'texts', texts, 'a text or a pair of texts');
    }
    const full = texts.length === 1 ? single : pair;
    const template = addSpecialTokens ? full : full.filter((part) => 'sequence' in part);
    const strategy = truncation === true ? 'longestFirst' : truncation;
    if (strategy !== false) requireRoom(maxLength, templateLength(template));
    // How two texts are cut depends on their lengths; a text by itself is cut where there is enough of it.
    const enough = texts.length === 1 && strategy !== false && strategy !== 'onlySecond' ? maxLength : Infinity;
    let sequences = texts.map((text: unknown, index): Tokens => {
      const name = index === 0 ? 'text' : 'pair';
      if (typeof text !== 'string') throw argumentError('ERR_ARG_TYPE', name, text, 'a string');
      if (text.length > maxTextLength) {
        throw argumentError('ERR_ARG_RANGE', name, text, `at most ${maxTextLength} characters; encode it in parts`);
      }
      const sink = new TokenSink();
      pipeline.encode(text, sink, enough);
      return sink.tokens();
    });
    if (strategy !== false) {
      sequences = truncate(sequences, strategy, maxLength, templateLength(template), oddToFirst);
    }
    return fillTemplate(template, sequences, this.specialIds, pieces);
  }
}

function requireId(id: unknown, index: number, vocabSize: number): number {
  if (Number.isInteger(id) && (id as number) >= 0 && (id as number) < vocabSize) return id as number;
  throw new XlformersError(
    'ERR_TOKEN_ID',
    `ids[${index}]: got ${describe(id)}, expected an integer in [0, ${vocabSize})`,
  );
}
