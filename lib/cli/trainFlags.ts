import { type Command, Option } from 'commander';
import { XlformersError } from '../errors';
import { spanModes } from '../data/spanMasking';
import { requireKnownOptions } from '../options';
import { scheduleKinds } from '../train/schedule';
import { precisions, type TrainOptions } from '../train/trainConfig';
import { deviceOption, integer, jsonOption, number, readJsonObject, seedOption } from './common';

/** What `train` can do. */
export type Job = 'transformer-xl' | 'xlnet' | 'classify';

export interface TrainFlags {
  out: string;
  model?: 'transformer-xl' | 'xlnet';
  task: 'language-model' | 'classify';
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
  precision?: string;
  optimizer?: string;
  learningRate?: number;
  layerDecay?: number;
  weightDecay?: number;
  warmupSteps?: number;
  schedule?: string;
  clipNorm?: number;
  evalInterval?: number;
  evalTargetLength?: number;
  evalMemoryLength?: number;
  evalMaxBatches?: number;
  patience?: number;
  checkpointInterval?: number;
  tokenizer?: string;
  trainTokenizer?: number;
  init?: string;
  reuseLen?: number;
  permSize?: number;
  numPredict?: number;
  alpha?: number;
  beta?: number;
  maxSpan?: number;
  spanMode?: string;
  biData?: boolean;
  textColumn?: string;
  labelColumn?: string;
  validFraction?: number;
  test?: string;
  epochs?: number;
}

interface FlagGroup {
  heading: string;
  jobs: readonly Job[];
  options: () => Option[];
}

const everyJob: readonly Job[] = ['transformer-xl', 'xlnet', 'classify'];

const flag = (flags: string, description: string, parse?: (text: string) => unknown) => {
  const option = new Option(flags, description);
  return parse ? option.argParser(parse) : option;
};

/** All flags, with the jobs that they are for. */
const groups: readonly FlagGroup[] = [
  {
    heading: 'What to train:',
    jobs: everyJob,
    options: () => [
      flag('--out <directory>', 'where checkpoints, log.jsonl, loss.svg and the model go').makeOptionMandatory(),
      flag('--model <architecture>', 'transformer-xl (default; on bytes) or xlnet').choices([
        'transformer-xl',
        'xlnet',
      ]),
      flag('--task <task>', 'classify: an XLNet on labelled texts')
        .choices(['language-model', 'classify'])
        .default('language-model'),
      flag('--config <file>', 'JSON: {"model": {...}, "train": {...}, "data": {...}}; flags override it'),
      flag('--valid <file>', 'held-out data'),
      flag('--resume', 'continue from the newest good checkpoint in --out'),
      deviceOption(),
      jsonOption(),
      seedOption(),
    ],
  },
  {
    heading: 'Size of a new model:',
    jobs: everyJob,
    options: () => [
      flag('--layers <n>', 'layers', integer(1)),
      flag('--d-model <n>', 'width of hidden states', integer(1)),
      flag('--heads <n>', 'attention heads', integer(1)),
      flag('--d-inner <n>', 'width of the feed-forward layers', integer(1)),
    ],
  },
  {
    heading: 'Training:',
    jobs: everyJob,
    options: () => [
      flag('--dropout <p>', 'dropout probability', number(0, 0.99)),
      flag('--steps <n>', 'optimizer steps', integer(1)),
      flag('--batch-size <n>', 'streams or examples side by side', integer(1)),
      flag('--target-length <n>', 'tokens per segment, sample or example', integer(1)),
      flag('--accumulation <n>', 'micro-batches per step', integer(1)),
      flag(
        '--precision <type>',
        'what is computed in; weights stay float32. bfloat16 and float16 need a CUDA device (default float32)',
      ).choices(precisions),
      flag('--optimizer <name>', 'adam or adamw').choices(['adam', 'adamw']),
      flag('--learning-rate <rate>', 'highest learning rate', number(0)),
      flag('--layer-decay <factor>', 'of the learning rate from each layer to the one below', number(1e-9, 1)),
      flag('--weight-decay <rate>', 'of all weights but biases and layer norms', number(0)),
      flag('--warmup-steps <n>', 'steps of linear warm-up', integer(0)),
      flag('--schedule <kind>', 'of the learning rate after the warm-up').choices(scheduleKinds),
      flag('--clip-norm <norm>', 'largest gradient norm; 0: no clipping', number(0)),
      flag('--eval-interval <n>', 'steps between evaluations; 0: only at the end', integer(0)),
      flag('--eval-max-batches <n>', 'batches per evaluation; 0: all', integer(0)),
      flag('--patience <n>', 'stop after so many evaluations without improvement; 0: never', integer(0)),
      flag('--checkpoint-interval <n>', 'steps between checkpoints; 0: only at the end and on a signal', integer(0)),
    ],
  },
  {
    heading: 'Language models:',
    jobs: ['transformer-xl', 'xlnet'],
    options: () => [
      flag('--memory-length <n>', 'rows of memory', integer(0)),
      flag('--eval-memory-length <n>', 'rows of memory in evaluations', integer(0)),
    ],
  },
  {
    heading: 'Transformer-XL:',
    jobs: ['transformer-xl'],
    options: () => [flag('--eval-target-length <n>', 'tokens per segment in evaluations', integer(1))],
  },
  {
    heading: 'XLNet (--model xlnet, --task classify):',
    jobs: ['xlnet', 'classify'],
    options: () => [
      flag('--tokenizer <folder or hub id>', "XLNet's tokenizer; default: that of --init"),
      flag('--train-tokenizer <pieces>', "learn a vocabulary from the data by SentencePiece's spm_train", integer(18)),
      flag('--init <folder or hub id>', 'start from a trained model instead of a new one'),
    ],
  },
  {
    heading: "XLNet's pretraining (--model xlnet):",
    jobs: ['xlnet'],
    options: () => [
      flag('--reuse-len <n>', 'tokens of a sample that become memory; default: half', integer(1)),
      flag('--perm-size <n>', 'tokens permuted together; default: --reuse-len', integer(1)),
      flag('--num-predict <n>', 'tokens predicted of a sample; default: a sixth', integer(1)),
      flag('--alpha <n>', 'of so many tokens around a span (default 6)', integer(1)),
      flag('--beta <n>', 'so many are predicted (default 1)', integer(1)),
      flag('--max-span <n>', 'longest span (default 5)', integer(1)),
      flag('--span-mode <mode>', 'spans count words (fixed, default) or, as the original, tokens (upstream)').choices(
        spanModes,
      ),
      flag('--bi-data', 'half of the rows read their text backwards'),
    ],
  },
  {
    heading: 'Classification (--task classify):',
    jobs: ['classify'],
    options: () => [
      flag('--text-column <name>', "column of the CSV or field of the JSONL (default 'text')"),
      flag('--label-column <name>', "the same of the label (default 'label')"),
      flag('--valid-fraction <share>', 'held out of each label without --valid (default 0.1)', number(0, 0.9)),
      flag('--test <file>', 'examples on which the best model is judged in the end'),
      flag('--epochs <n>', 'passes over the examples, instead of --steps (default 3)', number(1e-9)),
    ],
  },
];

/** Adds all flags, grouped in the help. */
export function addTrainFlags(command: Command): void {
  for (const { heading, options } of groups) {
    for (const option of options()) command.addOption(option.helpGroup(heading));
  }
}

/** What the flags ask for; flags of other jobs are refused by name. */
export function jobOf(command: Command): Job {
  const { model, task } = command.opts<TrainFlags>();
  if (task === 'classify' && model === 'transformer-xl') {
    command.error("error: option '--model transformer-xl' does not go with --task classify, which trains an XLNet");
  }
  const job = task === 'classify' ? 'classify' : (model ?? 'transformer-xl');
  for (const { jobs, options, heading } of groups) {
    if (jobs.includes(job)) continue;
    const stray = options().find((option) => command.getOptionValueSource(option.attributeName()) === 'cli');
    if (stray) {
      const asked = job === 'classify' ? '--task classify' : `--model ${job}`;
      command.error(`error: option '${stray.flags}' does not go with ${asked}; it is for: ${heading.slice(0, -1)}`);
    }
  }
  return job;
}

/** The parts of a configuration file. */
export interface ConfigFile {
  model: Record<string, unknown>;
  train: TrainOptions;
  data: Record<string, unknown>;
}

/**
 * @param dataNames options that the job has in "data"
 * @throws XlformersError ERR_CONFIG naming file and key
 */
export function readConfigFile(file: string | undefined, dataNames: readonly string[]): ConfigFile {
  const content = file === undefined ? {} : readJsonObject(file);
  const parts = dataNames.length > 0 ? ['model', 'train', 'data'] : ['model', 'train'];
  const unknown = Object.keys(content).find((key) => !parts.includes(key));
  if (unknown !== undefined) {
    throw new XlformersError(
      'ERR_CONFIG',
      `${file}: unknown key '${unknown}', expected ${parts.map((part) => `'${part}'`).join(', ')}`,
    );
  }
  const part = (name: string): object => {
    const value = content[name] ?? {};
    if (typeof value === 'object' && !Array.isArray(value)) return value;
    throw new XlformersError('ERR_CONFIG', `${file}: '${name}' is no object`);
  };
  const data = part('data') as Record<string, unknown>;
  requireKnownOptions('data', dataNames, data);
  return { model: part('model') as Record<string, unknown>, train: part('train') as TrainOptions, data };
}

/** The training configuration: a job's defaults, then the file, then the flags. */
export function trainOptions(defaults: TrainOptions, file: TrainOptions, flags: TrainFlags): TrainOptions {
  return {
    ...defaults,
    ...file,
    ...defined({
      seed: flags.seed,
      steps: flags.steps,
      batchSize: flags.batchSize,
      targetLength: flags.targetLength,
      memoryLength: flags.memoryLength,
      accumulation: flags.accumulation,
      precision: flags.precision as TrainOptions['precision'],
      optimizer: flags.optimizer as TrainOptions['optimizer'],
      learningRate: flags.learningRate,
      layerDecay: flags.layerDecay,
      weightDecay: flags.weightDecay,
      warmupSteps: flags.warmupSteps,
      schedule: flags.schedule as TrainOptions['schedule'],
      clipNorm: flags.clipNorm,
    }),
    evaluation: {
      ...defaults.evaluation,
      ...file.evaluation,
      ...defined({
        interval: flags.evalInterval,
        targetLength: flags.evalTargetLength,
        memoryLength: flags.evalMemoryLength,
        maxBatches: flags.evalMaxBatches,
        patience: flags.patience,
      }),
    },
    checkpoint: {
      ...defaults.checkpoint,
      ...file.checkpoint,
      ...defined({ interval: flags.checkpointInterval }),
    },
  };
}

/** Without what was not given. */
export function defined<T extends object>(values: T): Partial<T> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as Partial<T>;
}
