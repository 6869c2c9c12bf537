/**
 * `npm start`: trains a small byte-level Transformer-XL on Moby Dick, evaluates it on the end of the book with a longer memory,
 * compares it with gzip and xz, and writes a few lines of its own. An interrupted run goes on where it stopped.
 */
import { existsSync, promises as fs, rmSync } from 'node:fs';
import path from 'node:path';
import {
  TransformerXLLMHeadModel,
  evaluate,
  generate,
  ByteLevelTokenizer,
  languageModelTask,
  trainInDirectory,
} from '../lib';
import { exitCodes } from '../lib/cli/common';
import { abortOnSignals } from '../lib/cli/signals';
import { ProgressBar } from '../lib/cli/progressBar';
import { bitsPerCharacter, trainingProgress } from '../lib/cli/trainingProgress';
import { splitCorpus } from '../lib/data/corpus';
import { conditionalBitsPerByte } from './compressors';
import { mobyDick } from './dataset';

/** What tests make smaller. */
export interface DemoOptions {
  /** Path of the text. */
  book: string;
  /** Where checkpoints, the loss curve and at last the model go. */
  directory: string;
  steps: number;
  /** Of the model; the inner width is four times, the heads are 64 wide. */
  dModel: number;
  layers: number;
  /** Tokens of memory in training. */
  memoryLength: number;
  /** Tokens of memory in evaluation and in the sample. */
  evaluationMemory: number;
  /** Bytes of the sample. */
  sampleLength: number;
}

const usual: Omit<DemoOptions, 'book'> = {
  directory: path.join(__dirname, '..', 'runs', 'moby-dick'),
  steps: 560,
  dModel: 256,
  layers: 4,
  memoryLength: 128,
  evaluationMemory: 384,
  sampleLength: 400,
};

/** Trains, evaluates, compares and writes. An unfinished run in the directory goes on; a finished one is replaced. */
export async function demo(options: DemoOptions): Promise<void> {
  const { directory, steps, dModel, layers, memoryLength, evaluationMemory, sampleLength } = options;
  const book = await fs.readFile(options.book);
  const { train, valid, test } = splitCorpus(book, { valid: 0.02, test: 0.05 });
  const kilobytes = (bytes: Uint8Array) => `${Math.round(bytes.length / 1000)} kB`;
  console.log(`Moby Dick: ${kilobytes(train)} to train on, ${kilobytes(test)} of its end held out.\n`);

  if (existsSync(path.join(directory, 'model'))) rmSync(directory, { recursive: true });
  const model = new TransformerXLLMHeadModel(
    {
      vocabSize: 256,
      cutoffs: [],
      divVal: 1,
      tieProjs: [false],
      nLayer: layers,
      dModel,
      dEmbed: dModel,
      nHead: dModel / 64,
      dHead: 64,
      dInner: 4 * dModel,
      dropout: 0,
      // Normalising first learns without the long plateau at letter frequencies that normalising last has in so short a run.
      preLnorm: true,
      memLen: memoryLength,
      clampLen: -1,
      sameLength: false,
    },
    { seed: 1 },
  );
  const controller = new AbortController();
  const release = abortOnSignals(controller);
  const bar = new ProgressBar(process.stderr, 'training');
  const result = await trainInDirectory({
    task: languageModelTask(model, { train, valid }),
    directory,
    resume: true,
    signal: controller.signal,
    config: {
      steps,
      batchSize: 8,
      targetLength: 128,
      memoryLength,
      learningRate: 2.5e-3,
      minimumRate: 1e-4,
      warmupSteps: Math.min(60, Math.ceil(steps / 8)),
      clipNorm: 0.25,
      evaluation: { interval: Math.ceil(steps / 4), targetLength: 128, memoryLength: evaluationMemory, batchSize: 4 },
      checkpoint: { interval: Math.ceil(steps / 4) },
    },
    onStep: trainingProgress(bar, bitsPerCharacter),
    onEvaluation: ({ bitsPerCharacter }, step) => {
      bar.end();
      console.log(`step ${step}: ${bitsPerCharacter.toFixed(3)} bits per character on text not trained on`);
    },
  });
  bar.end();
  release();
  if (result.outcome === 'interrupted') {
    console.log('\nInterrupted and saved. npm start goes on from here.');
    process.exitCode = exitCodes.interrupted;
    return;
  }

  const heldOut = await evaluate(model, test, { targetLength: 128, memoryLength: evaluationMemory, batchSize: 4 });
  console.log(
    `\nHeld-out text, in bits per character (training with ${memoryLength} tokens of memory, evaluated with ${evaluationMemory}):`,
  );
  const rows = [{ name: 'Transformer-XL', bits: heldOut.bitsPerCharacter as number | null }];
  rows.push(...conditionalBitsPerByte(train, test));
  for (const { name, bits } of rows) {
    console.log(`  ${name.padEnd(16)} ${bits === null ? 'not on this machine' : bits.toFixed(3)}`);
  }

  const tokenizer = new ByteLevelTokenizer();
  const decoder = tokenizer.stream();
  const prompt = 'Call me Ishmael. ';
  process.stdout.write(`\nA sample:\n\n${prompt}`);
  model.resetMemoryLength(evaluationMemory);
  for await (const { id } of generate(model, tokenizer.encode(prompt).ids, {
    maxTokens: sampleLength,
    temperature: 0.8,
    topP: 0.95,
    seed: 1,
  })) {
    process.stdout.write(decoder.push(id));
  }
  console.log(
    `${decoder.end()}\n\nModel: ${path.relative('.', path.join(directory, 'model'))}   loss curve: ${path.relative('.', path.join(directory, 'loss.svg'))}`,
  );
  model.dispose();
}

if (require.main === module) void mobyDick().then((book) => demo({ ...usual, book }));
