import { promises as fs } from 'node:fs';
import path from 'node:path';
import { type HubOptions, resolveFiles } from '../checkpoints/hub';
import type { Wanted } from '../checkpoints/hubContents';
import { XlformersError, describe } from '../errors';
import { ByteLevelTokenizer } from './byteLevel';
import { JsonObject } from './jsonObject';
import { ifPresent, readTokenizerText } from './readTokenizerFile';
import type { Tokenizer } from './tokenizer';
import { TransformerXLTokenizer, wordVocabularyFiles } from './transformerXLTokenizer';
import { XLNetTokenizer, pieceVocabularyFiles } from './xlnetTokenizer';

interface Family {
  files: readonly string[];
  /** Names in tokenizer_config.json. */
  classes: readonly string[];
  modelType: string;
  load(directory: string): Promise<Tokenizer>;
}

const xlnet: Family = {
  files: pieceVocabularyFiles,
  classes: ['XLNetTokenizer', 'XLNetTokenizerFast'],
  modelType: 'xlnet',
  load: (directory) => XLNetTokenizer.fromFolder(directory),
};

const transformerXL: Family = {
  files: wordVocabularyFiles,
  classes: ['TransfoXLTokenizer'],
  modelType: 'transfo-xl',
  load: (directory) => TransformerXLTokenizer.fromFolder(directory),
};

const families = [xlnet, transformerXL];

/** What says which tokenizer it is, and the vocabulary of each. Where config.json speaks of bytes, none is needed. */
const wanted: Wanted = {
  weights: false,
  settings: ['config.json', 'tokenizer_config.json'],
  vocabularies: families.map(({ files }) => files),
  needsVocabulary: async (directory) => !speaksOfBytes(await readObject(directory, 'config.json')),
};

/** The tokenizer that belongs to a model. */
export const AutoTokenizer = {
  /**
   * The tokenizer of a folder or hub id: a SentencePiece vocabulary from tokenizer.json or spiece.model, words from vocab.txt, vocab.pkl or
   * vocab.bin, bytes where there are no such files and config.json speaks of 256 ids. Where both kinds of files are there,
   * `tokenizer_class` of tokenizer_config.json decides, else `model_type` of config.json. Of a hub id, these files are downloaded, no weights.
   * @throws XlformersError ERR_TOKENIZER_FILE saying what was found and what was looked for, and the errors of resolving and loading
   */
  async fromPretrained(nameOrPath: string, options: HubOptions = {}): Promise<Tokenizer> {
    const directory = await resolveFiles(nameOrPath, wanted, options);
    const config = await readObject(directory, 'config.json');
    const settings = await readObject(directory, 'tokenizer_config.json');
    const present = await filesOf(directory);
    const candidates = families.filter(({ files }) => files.some((name) => present.has(name)));
    if (candidates.length === 1) return (candidates[0] as Family).load(directory);

    const className = settings?.optionalString('tokenizer_class');
    const modelType = config?.optionalString('model_type');
    if (candidates.length > 1) {
      const named =
        candidates.find(({ classes }) => className !== undefined && classes.includes(className)) ??
        candidates.find((family) => family.modelType === modelType);
      if (named !== undefined) return named.load(directory);
      const found = families.flatMap(({ files }) => files.filter((name) => present.has(name)));
      throw new XlformersError(
        'ERR_TOKENIZER_FILE',
        `${directory}: has ${found.join(' and ')}, of different tokenizers, and neither tokenizer_class (${describe(className)}) nor ` +
          `model_type (${describe(modelType)}) says which; use XLNetTokenizer.fromPretrained or TransformerXLTokenizer.fromPretrained`,
      );
    }
    if (speaksOfBytes(config)) return new ByteLevelTokenizer();
    throw new XlformersError(
      'ERR_TOKENIZER_FILE',
      `${directory}: has no tokenizer; looked for ${families.flatMap(({ files }) => files).join(', ')}, ` +
        `and config.json's vocab_size is ${describe(config?.optionalNumber('vocab_size'))}, expected 256 for bytes`,
    );
  },
};

function speaksOfBytes(config: JsonObject | undefined): boolean {
  return config?.optionalNumber('vocab_size') === 256;
}

async function readObject(directory: string, name: string): Promise<JsonObject | undefined> {
  const text = await ifPresent(readTokenizerText(path.join(directory, name)));
  return text === undefined ? undefined : JsonObject.parse(text, path.join(directory, name));
}

async function filesOf(directory: string): Promise<ReadonlySet<string>> {
  try {
    return new Set(await fs.readdir(directory));
  } catch (error) {
    throw new XlformersError('ERR_FILE_READ', `${directory}: cannot be read: ${(error as Error).message}`, {
      cause: error,
    });
  }
}
