import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { writeFileAtomically } from '../checkpoints/atomicFile';
import { XlformersError, argumentError } from '../errors';

/** Options of `XLNetTokenizer.train`. */
export interface TrainOptions {
  /** Where to keep the model; default: nowhere. A `spiece.model` there is one that transformers loads. */
  output?: string;
  /** The trainer's program. Default `spm_train`, searched in PATH. */
  trainer?: string;
  /** Lets the trainer stop below `vocabSize` where the text has not so many pieces. Default false. */
  softLimit?: boolean;
}

/** How XLNet's vocabulary was made (README of zihangdai/xlnet, "Pretraining with XLNet"). */
const xlnetFlags = [
  '--model_type=unigram',
  '--character_coverage=0.99995',
  '--control_symbols=<cls>,<sep>,<pad>,<mask>,<eod>',
  '--user_defined_symbols=<eop>,.,(,),",-,–,£,€',
  '--shuffle_input_sentence=true',
  '--input_sentence_size=10000000',
];

/** Trains a SentencePiece model and returns its file's bytes. */
export async function trainSentencePiece(
  files: readonly string[],
  vocabSize: number,
  { output, trainer = 'spm_train', softLimit = false }: TrainOptions,
): Promise<Uint8Array> {
  if (!Number.isSafeInteger(vocabSize) || vocabSize < 18) {
    throw argumentError(
      'ERR_ARG_RANGE',
      'vocabSize',
      vocabSize,
      'an integer of at least 18, the special tokens and one piece',
    );
  }
  // The trainer separates file names by commas.
  const wrong = files.find((file) => typeof file !== 'string' || file === '' || file.includes(','));
  if (files.length === 0 || wrong !== undefined) {
    throw argumentError('ERR_ARG_TYPE', 'files', wrong ?? files, 'names of text files, without commas');
  }
  const directory = await mkdtemp(path.join(tmpdir(), 'xlformers-train-'));
  try {
    const prefix = path.join(directory, 'spiece');
    await run(trainer, [
      ...xlnetFlags,
      `--input=${files.map((file) => path.resolve(file)).join(',')}`,
      `--model_prefix=${prefix}`,
      `--vocab_size=${vocabSize}`,
      `--hard_vocab_limit=${!softLimit}`,
    ]);
    const model = await readFile(`${prefix}.model`);
    if (output !== undefined) await writeFileAtomically(output, model);
    return model;
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

function run(program: string, args: readonly string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe'] });
    let said = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      said = (said + text).slice(-2000);
    });
    child.on('error', (error: NodeJS.ErrnoException) => {
      const message =
        error.code === 'ENOENT'
          ? `'${program}' is not installed: SentencePiece's trainer learns the vocabulary. Debian and Ubuntu have it in the package ` +
            `sentencepiece, Homebrew too; its source is github.com/google/sentencepiece`
          : `'${program}' cannot be started: ${error.message}`;
      reject(new XlformersError('ERR_UNSUPPORTED', message, { cause: error }));
    });
    child.on('close', (code) => {
      if (code === 0) resolve();
      else reject(new XlformersError('ERR_UNSUPPORTED', `'${program}' failed (exit code ${code}): ${said.trim()}`));
    });
  });
}
