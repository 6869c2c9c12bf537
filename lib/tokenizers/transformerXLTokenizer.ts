import { promises as fs } from 'node:fs';
import path from 'node:path';
import { writeFileAtomically } from '../checkpoints/atomicFile';
import { type HubOptions, resolveFiles } from '../checkpoints/hub';
import { tokenizerFiles } from '../checkpoints/hubContents';
import { XlformersError, describe } from '../errors';
import type { BatchOptions, EncodedBatch, PaddingValues } from './batch';
import type { Encoding, Template } from './encoding';
import { ifPresent, readTokenizerText } from './readTokenizerFile';
import { type EncodeOptions, type TextOrPair, type TextPath, Tokenizer } from './tokenizer';
import type { TokenizerParts } from './tokenizerParts';
import {
  type TransformerXLSettings,
  addTokens,
  readTransformerXLSettings,
  writeTransformerXLSettings,
} from './transformerXLSettings';
import { pythonSpace } from './unicode';
import { WordPipeline } from './wordPipeline';
import { type WordVocabulary, readPickledVocabulary, readWordList, unknownIdOf } from './wordVocabulary';

/** What `encode` and `encodeBatch` of a `TransformerXLTokenizer` know besides. */
export interface WordOptions {
  /** Ends each text with `<eos>`, as lines of training data are. Default false, as in Hugging Face. */
  addEos?: boolean;
  /** Puts each text between two `<S>`, as in the One Billion Word data. Not together with `addEos`. Default false. */
  addDoubleEos?: boolean;
  /** The text is split into words already, by white space: files of WikiText-103 and the like. Default false. */
  pretokenized?: boolean;
}

/** In the order in which they are looked for: what Python does not need to unpickle comes first. */
export const wordVocabularyFiles = ['vocab.txt', 'vocab.pkl', 'vocab.bin'] as const;

/**
 * Transformer-XL's tokenizer: whole words, split by Moses' rules for English, numbers split at commas and points; never parts of words.
 *
 * Gives what transformers' `TransfoXLTokenizer` gives with sacremoses 0.2.0. As there, punctuation is normalized, words outside the
 * vocabulary become `<unk>`, and no special tokens are added unless asked for.
 */
export class TransformerXLTokenizer extends Tokenizer {
  protected readonly paddingSide = 'right';

  private constructor(
    parts: TokenizerParts,
    private readonly words: WordPipeline,
    private readonly vocabulary: WordVocabulary,
    private readonly settings: TransformerXLSettings,
  ) {
    super(parts);
  }

  /**
   * From a folder, as `fromFolder`, or a hub id, of which it takes the tokenizer's files only.
   * @throws XlformersError ERR_VOCAB, ERR_TOKENIZER_*, ERR_PICKLE_*, ERR_FILE_*, and those of finding a hub's files
   */
  static async fromPretrained(nameOrPath: string, options: HubOptions = {}): Promise<TransformerXLTokenizer> {
    return TransformerXLTokenizer.fromFolder(
      await resolveFiles(nameOrPath, tokenizerFiles(wordVocabularyFiles), options),
    );
  }

  /**
   * From a folder: its vocab.txt, vocab.pkl or vocab.bin, the first that is there, with the settings in tokenizer_config.json. Pickles are
   * read by a machine that executes nothing. As in Hugging Face, settings inside a pickle do not count.
   * @throws XlformersError ERR_VOCAB, ERR_TOKENIZER_*, ERR_PICKLE_*, ERR_FILE_*
   */
  static async fromFolder(directory: string): Promise<TransformerXLTokenizer> {
    const settings = readTransformerXLSettings(
      (await ifPresent(readTokenizerText(path.join(directory, 'tokenizer_config.json')))) ?? '{}',
    );
    for (const name of wordVocabularyFiles) {
      const vocabulary = await ifPresent(readVocabulary(path.join(directory, name)));
      if (vocabulary !== undefined) return TransformerXLTokenizer.from(vocabulary, settings);
    }
    throw new XlformersError(
      'ERR_TOKENIZER_FILE',
      `${directory}: has no word vocabulary; looked for ${wordVocabularyFiles.join(', ')}`,
    );
  }

  /**
   * From one file: a list of words where it ends in `.txt`, else a pickle or a file of `torch.save`.
   * @throws XlformersError ERR_VOCAB, ERR_TOKENIZER_*, ERR_PICKLE_*, ERR_FILE_*
   */
  static async fromFile(
    file: string,
    { lowerCase = false }: { lowerCase?: boolean } = {},
  ): Promise<TransformerXLTokenizer> {
    if (typeof lowerCase !== 'boolean')
      throw new XlformersError('ERR_CONFIG', `options.lowerCase: got ${describe(lowerCase)}, expected true or false`);
    return TransformerXLTokenizer.from(await readVocabulary(file), { ...readTransformerXLSettings('{}'), lowerCase });
  }

  private static from(vocabulary: WordVocabulary, settings: TransformerXLSettings): TransformerXLTokenizer {
    const pieces = [...vocabulary.symbols];
    const addedTokens = addTokens(settings, vocabulary, pieces);
    const { lowerCase, cleanUpSpaces, characters } = settings;
    const neverSplit =
      settings.neverSplit ?? addedTokens.filter(({ special }) => special).map(({ content }) => content);
    const pipeline = new WordPipeline(
      { pieces, vocabulary, addedTokens, neverSplit, lowerCase, cleanUpSpaces },
      characters ? 'characters' : 'moses',
    );
    const [single, pair] = templates([], []);
    return new TransformerXLTokenizer(
      { pipeline, pieces, addedTokens, single, pair, oddToFirst: true },
      pipeline,
      vocabulary,
      settings,
    );
  }

  get eosTokenId(): number {
    return this.requiredId(this.settings.roles.get('eos') as string);
  }
  /** What words outside the vocabulary become. */
  get unkTokenId(): number {
    return this.vocabulary.unknownId;
  }
  /** The padding that the settings name, else `<eos>`: a model that only looks back never sees what follows a text. */
  get padTokenId(): number {
    const pad = this.settings.roles.get('pad');
    return pad === undefined ? this.eosTokenId : this.requiredId(pad);
  }

  override encode(text: string, options: EncodeOptions & WordOptions = {}): Encoding {
    const { addEos, addDoubleEos, pretokenized, ...rest } = options;
    return this.encodeBy(this.path({ addEos, addDoubleEos, pretokenized }), text, rest);
  }

  override encodeBatch(texts: readonly TextOrPair[], options: BatchOptions & WordOptions = {}): EncodedBatch {
    const { addEos, addDoubleEos, pretokenized, ...rest } = options;
    return this.encodeBatchBy(this.path({ addEos, addDoubleEos, pretokenized }), texts, rest);
  }

  /**
   * Writes vocab.txt and tokenizer_config.json, from which Python's `TransfoXLTokenizer` loads as well, without unpickling anything.
   * @throws XlformersError ERR_VOCAB when a word cannot stand on a line of its own; ERR_FILE_WRITE
   */
  async save(directory: string): Promise<void> {
    const { symbols, idOf, unknownId } = this.vocabulary;
    const odd = symbols.findIndex((symbol) => symbol === '' || pythonSpace.test(symbol));
    if (odd >= 0) {
      throw new XlformersError(
        'ERR_VOCAB',
        `vocab.txt: word ${odd}, ${describe(symbols[odd])}, has white space or no characters`,
      );
    }
    if (unknownIdOf(idOf) !== unknownId) {
      throw new XlformersError(
        'ERR_VOCAB',
        `vocab.txt: the word for unknown ones is ${describe(symbols[unknownId])}, expected <UNK> or else <unk>`,
      );
    }
    await fs.mkdir(directory, { recursive: true });
    await writeFileAtomically(path.join(directory, 'vocab.txt'), symbols.map((symbol) => `${symbol}\n`).join(''));
    await writeFileAtomically(
      path.join(directory, 'tokenizer_config.json'),
      writeTransformerXLSettings(this.settings, this.parts.addedTokens),
    );
  }

  protected get padding(): PaddingValues {
    return { id: this.padTokenId, typeId: 0 };
  }

  private path({ addEos = false, addDoubleEos = false, pretokenized = false }: WordOptions): TextPath {
    for (const [name, value] of Object.entries({ addEos, addDoubleEos, pretokenized })) {
      if (typeof value !== 'boolean')
        throw new XlformersError('ERR_CONFIG', `options.${name}: got ${describe(value)}, expected true or false`);
    }
    if (addEos && addDoubleEos)
      throw new XlformersError('ERR_CONFIG', 'options.addEos, options.addDoubleEos: expected at most one of the two');
    const double = addDoubleEos ? [this.requiredId('<S>')] : [];
    const [single, pair] = templates(double, addEos ? [this.eosTokenId] : double);
    return { single, pair, pipeline: pretokenized ? this.words.with('spaces') : this.words };
  }
}

/** For one text and for two, each with what goes before and after it. */
function templates(before: readonly number[], after: readonly number[]): [single: Template, pair: Template] {
  const part = (sequence: 0 | 1): Template => [
    ...before.map((id) => ({ id, typeId: sequence })),
    { sequence, typeId: sequence },
    ...after.map((id) => ({ id, typeId: sequence })),
  ];
  return [part(0), [...part(0), ...part(1)]];
}

function readVocabulary(file: string): Promise<WordVocabulary> {
  return file.endsWith('.txt') ? readWordList(file) : readPickledVocabulary(file);
}
