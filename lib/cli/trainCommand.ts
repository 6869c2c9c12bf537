import type { Command } from 'commander';
import { readBytes, splitCorpus } from '../data/corpus';
import { TransformerXLLMHeadModel } from '../models/transformerXLHeads';
import type { TransformerXLOptions } from '../models/transformerXLConfig';
import { XlformersError } from '../errors';
import { languageModelTask } from '../train/languageModelTask';
import { resolveTrainConfig, type TrainOptions } from '../train/trainConfig';
import { type TrainingResult, trainInDirectory } from '../train/trainingRun';
import { scheduleKinds } from '../train/schedule';
import { deviceOption, exitCodes, integer, jsonOption, number, readJsonObject, seedOption } from './common';
import { ProgressBar } from './progressBar';
import { abortOnSignals } from './signals';
import { trainingProgress } from './trainingProgress';

interface TrainFlags {
  out: string;
  config?: string;
  valid?: string;
  resume?: boolean;
  device: string;
  json?: boolean;
  seed?: number;
  layers?: number;
  dModel?: number;
  heads?: number;
  dInner?: number;
  dropout?: number;
  steps?: number;
  batchSize?: number;
  targetLength?: number;
  memoryLength?: number;
  accumulation?: number;
  learningRate?: number;
  warmupSteps?: number;
  schedule?: string;
  clipNorm?: number;
  evalInterval?: number;
  evalTargetLength?: number;
  evalMemoryLength?: number;
  evalMaxBatches?: number;
  patience?: number;
  checkpointInterval?: number;
}

/** A small model that learns something in minutes; every value can be set by the config file or a flag. */
const defaultModel: TransformerXLOptions = {
  nLayer: 4,
  dModel: 256,
  nHead: 4,
  dInner: 1024,
  dropout: 0.1,
};

export function addTrainCommand(program: Command): void {
  program
    .command('train')
    .description('train a byte-level Transformer-XL on a text file')
    .argument('<text>', 'the text; its last 5 % are held out unless --valid names a file')
    .requiredOption('--out <directory>', 'where checkpoints, log.jsonl, loss.svg and the model go')
    .option('--config <file>', 'JSON: {"model": {...}, "train": {...}}; flags override it')
    .option('--valid <file>', 'held-out text')
    .option('--resume', 'continue from the newest good checkpoint in --out')
    .addOption(deviceOption())
    .addOption(jsonOption())
    .addOption(seedOption())
    .option('--layers <n>', 'layers', integer(1))
    .option('--d-model <n>', 'width of hidden states', integer(1))
    .option('--heads <n>', 'attention heads', integer(1))
    .option('--d-inner <n>', 'width of the feed-forward layers', integer(1))
    .option('--dropout <p>', 'dropout probability', number(0, 0.99))
    .option('--steps <n>', 'optimizer steps', integer(1))
    .option('--batch-size <n>', 'streams side by side', integer(1))
    .option('--target-length <n>', 'tokens per segment', integer(1))
    .option('--memory-length <n>', 'rows of memory', integer(0))
    .option('--accumulation <n>', 'micro-batches per step', integer(1))
    .option('--learning-rate <rate>', 'highest learning rate', number(0))
    .option('--warmup-steps <n>', 'steps of linear warm-up', integer(0))
    .option('--schedule <kind>', `after the warm-up: ${scheduleKinds.join(', ')}`)
    .option('--clip-norm <norm>', 'largest gradient norm; 0: no clipping', number(0))
    .option('--eval-interval <n>', 'steps between evaluations; 0: only at the end', integer(0))
    .option('--eval-target-length <n>', 'tokens per segment in evaluations', integer(1))
    .option('--eval-memory-length <n>', 'rows of memory in evaluations', integer(0))
    .option('--eval-max-batches <n>', 'batches per evaluation; 0: all', integer(0))
    .option('--patience <n>', 'stop after so many evaluations without improvement; 0: never', integer(0))
    .option('--checkpoint-interval <n>', 'steps between checkpoints; 0: only at the end and on a signal', integer(0))
    .addHelpText(
      'after',
      `
Ctrl-C or SIGTERM saves and exits with code ${exitCodes.interrupted}; the same command with --resume goes on, with the losses of an
uninterrupted run.

Example:
  xlformers train book.txt --out runs/book --steps 500 --eval-interval 100`,
    )
    .action(train);
}

async function train(text: string, flags: TrainFlags): Promise<void> {
  const file = flags.config === undefined ? {} : readJsonObject(flags.config);
  const unknown = Object.keys(file).find((key) => key !== 'model' && key !== 'train');
  if (unknown !== undefined) {
    throw new XlformersError('ERR_CONFIG', `${flags.config}: unknown key '${unknown}', expected 'model' and 'train'`);
  }
  const config = trainOptions(file.train as TrainOptions | undefined, flags);
  const { memoryLength, seed } = resolveTrainConfig(config);
  const bytes = await readBytes(text);
  const parts = flags.valid
    ? { train: bytes, valid: await readBytes(flags.valid) }
    : splitCorpus(bytes, { valid: 0.05, test: 0 });
  const model = new TransformerXLLMHeadModel(
    modelOptions(file.model as TransformerXLOptions | undefined, flags, memoryLength),
    { seed, device: flags.device },
  );
  const controller = new AbortController();
  const release = abortOnSignals(controller);
  const bar = new ProgressBar(process.stderr, 'training');
  try {
    const result = await trainInDirectory({
      task: languageModelTask(model, parts),
      directory: flags.out,
      config,
      resume: flags.resume,
      signal: controller.signal,
      onStep: trainingProgress(bar),
      onEvaluation: ({ loss, bitsPerCharacter }, step) => {
        bar.end();
        process.stderr.write(
          `step ${step}: held-out loss ${loss.toFixed(4)}, ${bitsPerCharacter.toFixed(4)} bits per character\n`,
        );
      },
      onSkipped: (directory, reason) => process.stderr.write(`passed over ${directory}: ${reason}\n`),
    });
    bar.end();
    report(result, flags);
    if (result.outcome === 'interrupted') process.exitCode = exitCodes.interrupted;
  } finally {
    release();
    model.dispose();
  }
}

function report(result: TrainingResult, { json, out }: TrainFlags): void {
  if (json) {
    process.stdout.write(`${JSON.stringify({ ...result, directory: out })}\n`);
  } else if (result.outcome === 'interrupted') {
    process.stdout.write(
      `Interrupted and saved at step ${result.step}. Continue with the same command and --resume.\n`,
    );
  } else {
    const best =
      result.bestLoss === null ? '' : `, best held-out loss ${result.bestLoss.toFixed(4)} at step ${result.bestStep}`;
    process.stdout.write(`Done at step ${result.step}${best}. Model: ${out}/model, loss curve: ${out}/loss.svg\n`);
  }
}

function trainOptions(file: TrainOptions | undefined, flags: TrainFlags): TrainOptions {
  return {
    ...file,
    ...defined({
      seed: flags.seed,
      steps: flags.steps,
      batchSize: flags.batchSize,
      targetLength: flags.targetLength,
      memoryLength: flags.memoryLength,
      accumulation: flags.accumulation,
      learningRate: flags.learningRate,
      warmupSteps: flags.warmupSteps,
      schedule: flags.schedule as TrainOptions['schedule'],
      clipNorm: flags.clipNorm,
    }),
    evaluation: {
      ...file?.evaluation,
      ...defined({
        interval: flags.evalInterval,
        targetLength: flags.evalTargetLength,
        memoryLength: flags.evalMemoryLength,
        maxBatches: flags.evalMaxBatches,
        patience: flags.patience,
      }),
    },
    checkpoint: { ...file?.checkpoint, ...defined({ interval: flags.checkpointInterval }) },
  };
}

function modelOptions(
  file: TransformerXLOptions | undefined,
  flags: TrainFlags,
  memoryLength: number,
): TransformerXLOptions {
  const shape = {
    ...defaultModel,
    ...file,
    ...defined({
      nLayer: flags.layers,
      dModel: flags.dModel,
      nHead: flags.heads,
      dInner: flags.dInner,
      dropout: flags.dropout,
    }),
  };
  const { dModel = 256, nHead = 4 } = shape;
  return {
    vocabSize: 256,
    cutoffs: [],
    divVal: 1,
    tieProjs: [false],
    clampLen: -1,
    sameLength: false,
    memLen: memoryLength,
    ...shape,
    dEmbed: shape.dEmbed ?? dModel,
    dHead: shape.dHead ?? Math.max(1, Math.floor(dModel / nHead)),
  };
}

function defined<T extends object>(values: T): Partial<T> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as Partial<T>;
}
