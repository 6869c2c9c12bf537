/** What pretraining and classification have in common on the command line: tokenizer and first weights. */
import { existsSync, promises as fs } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { type Wanted, allFiles } from '../checkpoints/hubContents';
import { isDirectory } from '../checkpoints/readFile';
import { XlformersError } from '../errors';
import type { XLNetOptions } from '../models/xlnetConfig';
import { ifPresent, readTokenizerFile } from '../tokenizers/readTokenizerFile';
import { XLNetTokenizer } from '../tokenizers/xlnetTokenizer';
import type { TrainOptions } from '../train/trainConfig';
import { downloaded } from './modelArguments';
import { type TrainFlags, defined } from './trainFlags';

/** XLNet's recipe (appendix of Yang et al. 2019): AdamW, clipping to 1, a linear schedule. */
export const xlnetRecipe: TrainOptions = {
  optimizer: 'adamw',
  epsilon: 1e-6,
  weightDecay: 0.01,
  clipNorm: 1,
  schedule: 'linear',
};

/** A small model that learns something in minutes. */
const defaultModel: XLNetOptions = { nLayer: 4, dModel: 256, nHead: 4, dInner: 1024, dropout: 0.1 };

export interface XLNetStart {
  tokenizer: XLNetTokenizer;
  /** The tokenizer's, for the finished model's folder. */
  tokenizerFiles: ReadonlyMap<string, Uint8Array>;
  /** The folder of --init, null for a new model. */
  init: string | null;
}

const vocabularyFileNames = ['tokenizer.json', 'spiece.model'];
const settingsFileNames = ['tokenizer_config.json', 'special_tokens_map.json'];

/** All of a tokenizer's files, for the finished model's folder. */
const tokenizerOnly: Wanted = {
  weights: false,
  settings: settingsFileNames,
  vocabularies: vocabularyFileNames.map((name) => [name]),
  needsVocabulary: () => Promise.resolve(true),
};

/**
 * Finds tokenizer and first weights.
 * @param texts what a vocabulary is to be learnt from, as lines
 * @throws XlformersError ERR_CONFIG without a tokenizer; the errors of reading, downloading and learning
 */
export async function xlnetStart(flags: TrainFlags, texts: () => Iterable<string>): Promise<XLNetStart> {
  const { tokenizer: named, trainTokenizer: pieces } = flags;
  const shape = (['layers', 'dModel', 'heads', 'dInner'] as const).find((name) => flags[name] !== undefined);
  if (flags.init !== undefined && shape !== undefined) {
    throw new XlformersError('ERR_CONFIG', `--init: its config.json says the size of the model; leave out '${shape}'`);
  }
  if (named !== undefined && pieces !== undefined) {
    throw new XlformersError('ERR_CONFIG', '--tokenizer, --train-tokenizer: expected one of the two');
  }
  const init = flags.init === undefined ? null : await resolved(flags.init, allFiles);
  let folder: string;
  if (pieces !== undefined) folder = await learnTokenizer(flags, pieces, texts);
  else if (named !== undefined) folder = named === flags.init && init ? init : await resolved(named, tokenizerOnly);
  else if (init !== null) folder = init;
  else {
    throw new XlformersError(
      'ERR_CONFIG',
      "XLNet needs a tokenizer: --tokenizer <folder or hub id>, --train-tokenizer <pieces> to learn one by SentencePiece's " +
        'spm_train, or --init <folder or hub id>, which brings one',
    );
  }
  const tokenizer = await XLNetTokenizer.fromFolder(folder);
  const files = new Map<string, Uint8Array>();
  for (const name of [...vocabularyFileNames, ...settingsFileNames]) {
    const bytes = await ifPresent(readTokenizerFile(path.join(folder, name)));
    if (bytes !== undefined) files.set(name, bytes);
  }
  return { tokenizer, tokenizerFiles: files, init };
}

/** The configuration of a new model, or what shall differ from that of --init. */
export function xlnetOptions(
  file: XLNetOptions,
  flags: TrainFlags,
  { tokenizer, init }: XLNetStart,
  more: XLNetOptions,
): XLNetOptions {
  const shape = defined({
    ...{ nLayer: flags.layers, dModel: flags.dModel, nHead: flags.heads, dInner: flags.dInner },
    dropout: flags.dropout,
    summaryLastDropout: flags.dropout,
  });
  if (init !== null) return { ...file, ...shape, ...more };
  const { vocabSize, padTokenId } = tokenizer;
  const ids = {
    bosTokenId: tokenizer.tokenToId('<s>') ?? -1,
    eosTokenId: tokenizer.tokenToId('</s>') ?? -1,
  };
  return { vocabSize, padTokenId, ...ids, ...defaultModel, ...file, ...shape, ...more };
}

/** A vocabulary learnt from the data, kept in the run's directory: a resumed run has the same. */
async function learnTokenizer(
  { out, resume }: TrainFlags,
  pieces: number,
  texts: () => Iterable<string>,
): Promise<string> {
  const folder = path.join(out, 'tokenizer');
  const output = path.join(folder, 'spiece.model');
  if (resume && existsSync(output)) return folder;
  const scratch = await fs.mkdtemp(path.join(os.tmpdir(), 'xlformers-vocabulary-'));
  try {
    const corpus = path.join(scratch, 'text.txt');
    await fs.writeFile(corpus, [...texts()].join('\n'));
    await fs.mkdir(folder, { recursive: true });
    process.stderr.write(`learning a vocabulary of at most ${pieces} pieces\n`);
    await XLNetTokenizer.train([corpus], pieces, { output, softLimit: true });
  } finally {
    await fs.rm(scratch, { recursive: true, force: true });
  }
  return folder;
}

/** The folder of a model or tokenizer. */
async function resolved(name: string, wanted: Wanted): Promise<string> {
  return (await isDirectory(name)) ? name : downloaded(name, {}, undefined, wanted);
}
