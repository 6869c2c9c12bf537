import path from 'node:path';
import { XlformersError, argumentError, describe } from '../errors';
import { type BatchOptions, type EncodedBatch, layOut, layoutOptions } from './batch';
import { Encoding, type Truncation, fillTemplate, templateLength, truncate } from './encoding';
import { type SentencePieceSettings, partsFromSentencePiece } from './fromSentencePiece';
import { partsFromTokenizerJson } from './fromTokenizerJson';
import { JsonObject } from './jsonObject';
import { maxTextLength } from './limits';
import { ifPresent, readTokenizerFile, readTokenizerText } from './readTokenizerFile';
import { type TrainOptions, trainSentencePiece } from './trainSentencePiece';
import { type Tokens, TokenSink } from './tokenSink';
import type { TokenizerParts } from './xlnetParts';

/** Options of `encode`. */
export interface EncodeOptions {
  /** A second text: `text <sep> pair <sep> <cls>`. */
  pair?: string;
  /** Default true. */
  addSpecialTokens?: boolean;
  /** `true` or 'longestFirst', 'onlyFirst', 'onlySecond': drops tokens at the end of the texts to reach `maxLength`. Default false. */
  truncation?: boolean | Truncation;
  /** In tokens, special tokens included. */
  maxLength?: number;
}

export interface DecodeOptions {
  /** Leaves out `<sep>`, `<cls>`, `<pad>` and the like. Default false. */
  skipSpecialTokens?: boolean;
}

/** The type id of padding, which is no segment (`_pad_token_type_id` of transformers' XLNet tokenizers). */
const padTypeId = 3;

/**
 * XLNet's tokenizer: a SentencePiece unigram vocabulary, `<sep>` and `<cls>` at the end, padding on the left.
 *
 * From a `tokenizer.json` it gives what transformers' `XLNetTokenizerFast` gives; from a `spiece.model`, what `XLNetTokenizer` gives. The
 * two differ where white space, added tokens and digits before a comma meet; docs/tokenizers.md has the list.
 */
export class XLNetTokenizer {
  /** Number of ids. */
  readonly vocabSize: number;
  private readonly specialIds: ReadonlySet<number>;
  private readonly idOf: ReadonlyMap<string, number>;

  private constructor(private readonly parts: TokenizerParts) {
    this.vocabSize = parts.pieces.length;
    this.idOf = new Map(parts.pieces.map((piece, id) => [piece, id]));
    this.specialIds = new Set(parts.addedTokens.filter(({ special }) => special).map(({ id }) => id));
  }

  /**
   * From a folder: its tokenizer.json; where there is none, its spiece.model with the settings in tokenizer_config.json.
   * @throws XlformersError ERR_TOKENIZER_*, ERR_FILE_*
   */
  static async fromFolder(directory: string): Promise<XLNetTokenizer> {
    const json = await ifPresent(readTokenizerText(path.join(directory, 'tokenizer.json')));
    if (json !== undefined) return new XLNetTokenizer(partsFromTokenizerJson(json));
    const model = await ifPresent(readTokenizerFile(path.join(directory, 'spiece.model')));
    if (model === undefined) {
      throw new XlformersError('ERR_TOKENIZER_FILE', `${directory}: has neither tokenizer.json nor spiece.model`);
    }
    return new XLNetTokenizer(partsFromSentencePiece(model, await readSettings(directory)));
  }

  /**
   * From one file, a `.json` of Hugging Face's `tokenizers` or a SentencePiece model of any other name.
   * @param settings for a SentencePiece model only
   * @throws XlformersError ERR_TOKENIZER_*, ERR_FILE_*
   */
  static async fromFile(file: string, settings?: SentencePieceSettings): Promise<XLNetTokenizer> {
    return new XLNetTokenizer(
      file.endsWith('.json')
        ? partsFromTokenizerJson(await readTokenizerText(file))
        : partsFromSentencePiece(await readTokenizerFile(file), settings),
    );
  }

  /**
   * Learns a vocabulary from text files by SentencePiece's own trainer, `spm_train`, with the settings of XLNet's vocabulary.
   * @param files plain text, one sentence or paragraph a line
   * @throws XlformersError ERR_UNSUPPORTED where `spm_train` is not installed, saying how to get it
   */
  static async train(files: readonly string[], vocabSize: number, options: TrainOptions = {}): Promise<XLNetTokenizer> {
    return new XLNetTokenizer(partsFromSentencePiece(await trainSentencePiece(files, vocabSize, options)));
  }

  get padTokenId(): number {
    return this.requiredId('<pad>');
  }
  get sepTokenId(): number {
    return this.requiredId('<sep>');
  }
  get clsTokenId(): number {
    return this.requiredId('<cls>');
  }
  get maskTokenId(): number {
    return this.requiredId('<mask>');
  }
  get unkTokenId(): number {
    return this.requiredId('<unk>');
  }
  get bosTokenId(): number {
    return this.requiredId('<s>');
  }
  get eosTokenId(): number {
    return this.requiredId('</s>');
  }

  /** The id of a piece (with U+2581 for a space) or of a special token; undefined when the vocabulary lacks it. */
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
    const { pair, addSpecialTokens = true, ...layout } = options;
    const { truncation, maxLength } = layoutOptions(layout);
    return this.encodeTexts(pair === undefined ? [text] : [text, pair], addSpecialTokens, truncation, maxLength);
  }

  /**
   * Texts, or pairs of texts, as int32 tensors [batch, length].
   * @throws XlformersError ERR_ARG_TYPE, ERR_ARG_SHAPE, ERR_CONFIG, ERR_ARG_RANGE
   */
  encodeBatch(
    texts: readonly (string | readonly [text: string, pair: string])[],
    options: BatchOptions = {},
  ): EncodedBatch {
    const { device, addSpecialTokens = true, ...given } = options;
    if (!Array.isArray(texts) || texts.length === 0)
      throw argumentError('ERR_ARG_TYPE', 'texts', texts, 'an array of one text or more');
    const layout = layoutOptions(given);
    const rows = (texts as typeof texts).map((row) =>
      this.encodeTexts(typeof row === 'string' ? [row] : row, addSpecialTokens, layout.truncation, layout.maxLength),
    );
    return layOut(rows, layout, { id: this.padTokenId, typeId: padTypeId }, device);
  }

  /** @throws XlformersError ERR_TOKEN_ID naming the index of an id that the vocabulary does not have */
  decode(ids: ArrayLike<number>, { skipSpecialTokens = false }: DecodeOptions = {}): string {
    const checked = Array.from({ length: ids.length }, (_, index) => requireId(ids[index], index, this.vocabSize));
    return this.parts.pipeline.decode(skipSpecialTokens ? checked.filter((id) => !this.specialIds.has(id)) : checked);
  }

  private encodeTexts(
    texts: readonly string[],
    addSpecialTokens: boolean,
    truncation: boolean | Truncation,
    maxLength: number,
  ): Encoding {
    const { single, pair, pieces, oddToFirst, pipeline } = this.parts;
    if (!Array.isArray(texts) || texts.length < 1 || texts.length > 2) {
      throw argumentError('ERR_ARG_TYPE', 'texts', texts, 'a text or a pair of texts');
    }
    let sequences = texts.map((text: unknown, index): Tokens => {
      if (typeof text !== 'string')
        throw argumentError('ERR_ARG_TYPE', index === 0 ? 'text' : 'pair', text, 'a string');
      if (text.length > maxTextLength) {
        throw argumentError(
          'ERR_ARG_RANGE',
          index === 0 ? 'text' : 'pair',
          text,
          `at most ${maxTextLength} characters; encode it in parts`,
        );
      }
      const sink = new TokenSink();
      pipeline.encode(text, sink);
      return sink.tokens();
    });
    const full = sequences.length === 1 ? single : pair;
    const template = addSpecialTokens ? full : full.filter((part) => 'sequence' in part);
    if (truncation !== false) {
      const strategy = truncation === true ? 'longestFirst' : truncation;
      sequences = truncate(sequences, strategy, maxLength, templateLength(template), oddToFirst);
    }
    return fillTemplate(template, sequences, this.specialIds, pieces);
  }

  private requiredId(token: string): number {
    const id = this.idOf.get(token);
    if (id === undefined) throw new XlformersError('ERR_TOKENIZER_ID', `the vocabulary has no token '${token}'`);
    return id;
  }
}

function requireId(id: unknown, index: number, vocabSize: number): number {
  if (Number.isInteger(id) && (id as number) >= 0 && (id as number) < vocabSize) return id as number;
  throw new XlformersError(
    'ERR_TOKEN_ID',
    `ids[${index}]: got ${describe(id)}, expected an integer in [0, ${vocabSize})`,
  );
}

async function readSettings(directory: string): Promise<SentencePieceSettings> {
  const text = await ifPresent(readTokenizerText(path.join(directory, 'tokenizer_config.json')));
  if (text === undefined) return {};
  const config = JsonObject.parse(text, 'tokenizer_config.json');
  return {
    lowerCase: config.boolean('do_lower_case', false),
    keepAccents: config.boolean('keep_accents', false),
    removeSpace: config.boolean('remove_space', true),
  };
}
