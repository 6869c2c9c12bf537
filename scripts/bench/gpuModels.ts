/**
 * Whole models on a GPU: forward passes, evaluation, decoding, training steps, and memory over length, in float32 and bfloat16. Prints a
 * line of JSON for each case and type of numbers, with all that scripts/reference/gpu_models.py needs to run the same with Hugging Face's
 * classes and to make the table: bfloat16 first, lengths last. Needs the CUDA backend; `--dry` runs tiny shapes anywhere.
 */
import { Command } from 'commander';
import {
  type Device,
  type FloatDType,
  type PretrainedModel,
  Tensor,
  TransformerXLLMHeadModel,
  type TransformerXLOptions,
  XLNetLMHeadModel,
  noGrad,
  scope,
} from '../../lib';
import { resolveDevice } from '../../lib/device';
import { dtypeDetail } from '../../lib/dtype';
import type { DecodingSession } from '../../lib/models/decoding';
import type { Parameter } from '../../lib/tensor';
import { type Case, median, randomIds } from './measure';
import * as transformerXL from './transformerXLCases';
import * as xlnet from './xlnetCases';

type Request =
  | { kind: 'forward' | 'evaluate' | 'train'; batch: number; target: number; memory: number }
  | { kind: 'decode'; batch: number; memory: number }
  | { kind: 'xlnetForward'; batch: number; length: number }
  | { kind: 'xlnetDecode'; batch: number; memory: number }
  | { kind: 'xlnetTrain'; batch: number; length: number; targets: number };

interface ModelCases {
  name: string;
  family: 'transformer-xl' | 'xlnet';
  /** Hugging Face's names in camelCase. */
  config: Record<string, unknown>;
  requests: Request[];
  /** For memory over length; by eager PyTorch only. */
  lengths?: Request[];
}

const wt103 = { vocabSize: 267_735, cutoffs: [20_000, 40_000, 200_000], dropout: 0.1, clampLen: -1, sameLength: false };
const lengths = [512, 1024, 2048, 4096, 8192, 16_384];

const published: ModelCases[] = [
  {
    name: 'Transformer-XL base (wt103)',
    family: 'transformer-xl',
    config: { ...wt103, divVal: 1, nLayer: 16, dModel: 410, dEmbed: 410, nHead: 10, dHead: 41, dInner: 2100 },
    requests: [
      { kind: 'forward', batch: 60, target: 150, memory: 150 },
      { kind: 'evaluate', batch: 10, target: 64, memory: 640 },
      { kind: 'decode', batch: 1, memory: 640 },
      { kind: 'decode', batch: 32, memory: 640 },
      { kind: 'train', batch: 60, target: 150, memory: 150 },
    ],
    lengths: lengths.map((target) => ({ kind: 'forward', batch: 1, target, memory: 0 })),
  },
  {
    name: 'Transformer-XL large (wt103)',
    family: 'transformer-xl',
    config: {
      ...wt103,
      dropout: 0.2,
      dropatt: 0.2,
      divVal: 4,
      nLayer: 18,
      dModel: 1024,
      dEmbed: 1024,
      nHead: 16,
      dHead: 64,
      dInner: 4096,
    },
    requests: [
      { kind: 'forward', batch: 16, target: 384, memory: 384 },
      { kind: 'evaluate', batch: 8, target: 128, memory: 1600 },
      { kind: 'decode', batch: 1, memory: 1600 },
      { kind: 'decode', batch: 32, memory: 1600 },
      { kind: 'train', batch: 16, target: 384, memory: 384 },
    ],
  },
  {
    name: 'XLNet base',
    family: 'xlnet',
    config: { vocabSize: 32_000, nLayer: 12, dModel: 768, nHead: 12, dInner: 3072, memLen: null, useMemsEval: false },
    requests: [
      { kind: 'xlnetForward', batch: 16, length: 128 },
      { kind: 'xlnetForward', batch: 16, length: 512 },
      { kind: 'xlnetDecode', batch: 1, memory: 512 },
      { kind: 'xlnetDecode', batch: 32, memory: 512 },
      { kind: 'xlnetTrain', batch: 8, length: 512, targets: 85 },
    ],
    lengths: lengths.map((length) => ({ kind: 'xlnetForward', batch: 1, length })),
  },
  {
    name: 'XLNet large',
    family: 'xlnet',
    config: { vocabSize: 32_000, nLayer: 24, dModel: 1024, nHead: 16, dInner: 4096, memLen: null, useMemsEval: false },
    requests: [
      { kind: 'xlnetForward', batch: 16, length: 512 },
      { kind: 'xlnetDecode', batch: 1, memory: 512 },
      { kind: 'xlnetTrain', batch: 4, length: 512, targets: 85 },
    ],
  },
];

const tiny: ModelCases[] = [
  {
    name: 'Transformer-XL, tiny',
    family: 'transformer-xl',
    config: {
      ...{ ...wt103, vocabSize: 60, cutoffs: [20, 40], divVal: 2 },
      ...{ nLayer: 2, dModel: 16, dEmbed: 16, nHead: 2, dHead: 8, dInner: 24 },
    },
    requests: [
      { kind: 'forward', batch: 2, target: 6, memory: 5 },
      { kind: 'evaluate', batch: 2, target: 6, memory: 5 },
      { kind: 'decode', batch: 2, memory: 5 },
      { kind: 'train', batch: 2, target: 6, memory: 5 },
    ],
    lengths: [{ kind: 'forward', batch: 1, target: 7, memory: 0 }],
  },
  {
    name: 'XLNet, tiny',
    family: 'xlnet',
    config: { vocabSize: 60, nLayer: 2, dModel: 16, nHead: 2, dInner: 24, memLen: null, useMemsEval: false },
    requests: [
      { kind: 'xlnetForward', batch: 2, length: 12 },
      { kind: 'xlnetDecode', batch: 2, memory: 6 },
      { kind: 'xlnetTrain', batch: 2, length: 12, targets: 2 },
    ],
  },
];

const program = new Command('gpuModels')
  .description('whole models on a GPU, a line of JSON for each case; scripts/gpu/bench makes the table')
  .option('--device <name>', 'where', 'cuda')
  .option('--dtypes <names>', 'types of numbers', 'bfloat16,float32')
  .option('--seconds <n>', 'to measure each case for, at least', '0.5')
  .option('--until <time>', 'in seconds since 1970: cases that would begin later are listed as skipped', 'Infinity')
  .option('--dry', 'tiny shapes, each once')
  .parse();

async function main(): Promise<void> {
  const {
    device: name,
    dtypes,
    seconds,
    until,
    dry = false,
  } = program.opts<{
    device: string;
    dtypes: string;
    seconds: string;
    until: string;
    dry?: boolean;
  }>();
  const device = resolveDevice(name);
  const types = dtypes.split(',') as FloatDType[];
  for (const compiled of [true, false]) {
    for (const dtype of types) {
      for (const { requests, lengths: longer = [], ...model } of dry ? tiny : published) {
        for (const request of compiled ? requests : longer) {
          const found =
            Date.now() > 1000 * Number(until)
              ? { skipped: 'the time was up' }
              : // What does not fit is a result too.
                await measure(model, dtype, request, device, dry ? 0 : Number(seconds)).catch((error: Error) => ({
                  error: error.message,
                }));
          process.stdout.write(`${JSON.stringify({ model, dtype, request, compiled, ...found })}\n`);
        }
      }
    }
  }
}

interface Measured {
  milliseconds: number;
  /** Beyond weights and what lasts from step to step. */
  peakBytes: number;
  flops: number;
  /** That nobody can avoid moving. */
  leastBytes: number;
}

async function measure(
  { family, config }: Omit<ModelCases, 'requests'>,
  dtype: FloatDType,
  request: Request,
  device: Device,
  seconds: number,
): Promise<Measured> {
  const trains = request.kind === 'train' || request.kind === 'xlnetTrain';
  // Training keeps float32 weights; inference has them in the type that it computes in.
  const options = { device, seed: 1, dtype: trains ? ('float32' as const) : dtype };
  const memory = 'memory' in request ? { memLen: request.memory } : {};
  const model =
    family === 'xlnet'
      ? new XLNetLMHeadModel({ ...config, ...memory }, options)
      : new TransformerXLLMHeadModel({ ...config, ...memory } as TransformerXLOptions, options);
  if (trains) model.setPrecision(dtype);
  const current = await makeCase(model, request);
  try {
    for (let warmup = 0; warmup < 3; warmup += 1) await current.run();
    await device.synchronize();
    const base = device.memory().liveBytes;
    device.resetPeak();
    const times: number[] = [];
    const until = performance.now() + 1000 * seconds;
    do {
      const started = performance.now();
      await current.run();
      times.push(performance.now() - started);
    } while (performance.now() < until || (times.length < 5 && seconds > 0));
    const peakBytes = device.memory().peakBytes - base;
    return { milliseconds: median(times), peakBytes, flops: current.flops, leastBytes: leastBytes(model, request) };
  } finally {
    current.dispose();
    model.dispose();
  }
}

/** Weights once, in training 28 bytes of each: Adam's. In decoding also keys and values of the memory, and positions, of all layers. */
function leastBytes(model: PretrainedModel, request: Request): number {
  const weights = [...model.parameters().values()];
  const total = (bytes: (weight: Parameter) => number) => weights.reduce((sum, weight) => sum + bytes(weight), 0);
  if (request.kind === 'train' || request.kind === 'xlnetTrain') return total(({ size }) => 28 * size);
  const once = total(({ size, dtype }) => size * dtypeDetail(dtype).bytes);
  if (request.kind !== 'decode' && request.kind !== 'xlnetDecode') return once;
  const { config } = model as TransformerXLLMHeadModel | XLNetLMHeadModel;
  const width = 'dHead' in config ? config.nHead * config.dHead : config.dModel;
  const row = width * dtypeDetail(model.precision).bytes;
  return once + config.nLayer * request.memory * row * (2 * request.batch + 1);
}

async function makeCase(model: PretrainedModel, request: Request): Promise<Case> {
  if (model instanceof XLNetLMHeadModel) {
    if (request.kind === 'xlnetForward') return xlnet.forwardCase(model, request.batch, request.length);
    if (request.kind === 'xlnetDecode') {
      const { batch, memory } = request;
      // Hugging Face's steps, to the same scores: the two newest tokens and a dummy behind the memory.
      const session = model.startDecoding({ decoding: 'hf', useMems: true });
      return decodeCase(model, session, batch, memory, xlnet.decodeFlops(model.config, batch, memory));
    }
    if (request.kind === 'xlnetTrain') return xlnet.trainCase(model, request.batch, request.length, request.targets);
  } else if (model instanceof TransformerXLLMHeadModel) {
    switch (request.kind) {
      case 'forward':
        return transformerXL.forwardCase(model, request.batch, request.target, request.memory);
      case 'evaluate':
        return evaluateCase(model, request.batch, request.target, request.memory);
      case 'train':
        return transformerXL.trainCase(model, request.batch, request.target, request.memory);
      case 'decode': {
        const { batch, memory } = request;
        model.resetMemoryLength(memory);
        const flops = transformerXL.evaluateFlops(model.config, batch, 1, memory);
        return decodeCase(model, model.startDecoding(), batch, memory, flops);
      }
    }
  }
  throw new Error(`${request.kind}: not a case of ${model.constructor.name}`);
}

/** The loss of a segment behind a full memory. */
function evaluateCase(model: TransformerXLLMHeadModel, batch: number, target: number, memory: number): Case {
  model.resetMemoryLength(memory);
  model.eval();
  const { device, config } = model;
  const [inputIds, targets] = [1, 2].map((seed) =>
    Tensor.from(randomIds(batch * target, config.vocabSize, seed), [batch, target], { device }),
  ) as [Tensor, Tensor];
  let { mems } = noGrad(() => scope(() => model.forward({ inputIds, targets })));
  return {
    request: { kind: 'forward', batch, target, memory },
    flops: transformerXL.evaluateFlops(config, batch, target, memory),
    run: async () => {
      const out = noGrad(() => scope(() => model.forward({ inputIds, targets, mems: mems ?? undefined })));
      mems?.dispose();
      mems = out.mems;
      await out.loss?.item();
      out.loss?.dispose();
      out.lastHiddenState.dispose();
    },
    dispose: () => {
      for (const each of [inputIds, targets, mems]) each?.dispose();
    },
  };
}

/** One token for each text behind a full memory, up to the scores of all words. */
async function decodeCase(
  model: TransformerXLLMHeadModel | XLNetLMHeadModel,
  session: DecodingSession,
  batch: number,
  memory: number,
  flops: number,
): Promise<Case> {
  model.eval();
  const prompt = randomIds(memory, model.config.vocabSize, 1);
  (await session.start(Array.from({ length: batch }, () => prompt))).dispose();
  return {
    request: { kind: 'forward', batch, target: 1, memory },
    flops,
    run: async () => {
      const scores = session.step(new Array<number>(batch).fill(1));
      await model.device.synchronize();
      scores.dispose();
    },
    dispose: () => session.dispose(),
  };
}

void main();
