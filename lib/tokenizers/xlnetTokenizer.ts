import path from 'node:path';
import { type HubOptions, resolveFiles } from '../checkpoints/hub';
import { tokenizerFiles } from '../checkpoints/hubContents';
import { XlformersError } from '../errors';
import type { PaddingValues } from './batch';
import { type SentencePieceSettings, partsFromSentencePiece } from './fromSentencePiece';
import { partsFromTokenizerJson } from './fromTokenizerJson';
import { JsonObject } from './jsonObject';
import { ifPresent, readTokenizerFile, readTokenizerText } from './readTokenizerFile';
import { Tokenizer } from './tokenizer';
import type { TokenizerParts } from './tokenizerParts';
import { type TrainOptions, trainSentencePiece } from './trainSentencePiece';

/** In the order in which they are looked for. */
export const pieceVocabularyFiles = ['tokenizer.json', 'spiece.model'] as const;

/** The type id of padding, which is no segment (`_pad_token_type_id` of transformers' XLNet tokenizers). */
export const padTypeId = 3;

/**
 * XLNet's tokenizer: a SentencePiece unigram vocabulary, `<sep>` and `<cls>` at the end, padding on the left.
 *
 * From a `tokenizer.json` it gives what transformers' `XLNetTokenizerFast` gives; from a `spiece.model`, what `XLNetTokenizer` gives. The
 * two differ where white space, added tokens and digits before a comma meet; docs/tokenizers.md has the list.
 */
export class XLNetTokenizer extends Tokenizer {
  protected readonly paddingSide = 'left';

  private constructor(parts: TokenizerParts) {
    super(parts);
  }

  /**
   * From a folder, as `fromFolder`, or a hub id, of which it takes the tokenizer's files only.
   * @throws XlformersError ERR_TOKENIZER_*, ERR_FILE_*, and those of finding a hub's files
   */
  static async fromPretrained(nameOrPath: string, options: HubOptions = {}): Promise<XLNetTokenizer> {
    return XLNetTokenizer.fromFolder(await resolveFiles(nameOrPath, tokenizerFiles(pieceVocabularyFiles), options));
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

  protected get padding(): PaddingValues {
    return { id: this.padTokenId, typeId: padTypeId };
  }
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
