/**
 * The operators of a layer in a training step and in evaluation, with the bytes that each reads and writes per element of [rows, dModel];
 * products and attention by their number only. What a model of two layers runs and one of a single layer does not, on the CPU, for types
 * of 16 bits: 2 bytes an element. `npx ts-node scripts/bench/passes.ts` prints what the tables of docs/benchmarks.md are made of;
 * scripts/reference/eager_passes.py counts what eager PyTorch moves.
 */
import {
  type Memory,
  type PretrainedModel,
  Tensor,
  TransformerXLLMHeadModel,
  XLNetLMHeadModel,
  noGrad,
} from '../../lib';
import { native } from '../../lib/native';
import { operatorNames } from '../../lib/nativeOperators';
import { randomIds } from './measure';

const elementBytes = 2;

const sizes = { batch: 3, length: 22, dModel: 40, dInner: 160, heads: 2, headDim: 20, targets: 4 };

interface Pass {
  operator: string;
  /** Elements; of products, attention and what works on weights none are counted. */
  read: number;
  written: number;
}

type Step = Record<'forward' | 'backward' | 'evaluation', Pass[]>;

type Options = Record<string, unknown>;

const present = (options: Options, ...names: string[]) => names.filter((name) => options[name]).length;

const area = ({ rows, columns }: Options) => (rows as number) * (columns as number);

/** Elements that an operator reads and writes, of its operands with rows; biases and statistics are left out. */
const counted: Record<string, (options: Options) => [read: number, written: number]> = {
  add: (o) => each(o.count, present(o, 'x', 'y'), 1),
  dropout: (o) => each(o.count, 1, 1),
  activation: (o) => each(o.count, 1, 1),
  activationGradient: (o) => each(o.count, o.activation === 'none' ? 1 : 2, 1),
  columnSum: (o) => each(area(o), 1, 0),
  layerNorm: (o) => each(area(o), present(o, 'x', 'residual'), present(o, 'y', 'sum')),
  layerNormGradient: (o) => each(area(o), 2, present(o, 'xGradient', 'residualGradient')),
  copyStrided: (o) => each((o.outer as number) * area(o), 1, 1),
  memoryUpdate: (o) => each((o.batch as number) * (o.outLength as number) * (o.columns as number), 1, 1),
};

function each(count: unknown, read: number, written: number): [number, number] {
  return [(count as number) * read, (count as number) * written];
}

/** Dropout, and activations other than relu, take a pass over what cuBLASLt wrote. */
function finishes({ activation, dropout }: Options): boolean {
  return (dropout as number) > 0 || !['none', 'relu'].includes(activation as string);
}

/** Runs `body`, noting its operators. */
function passesOf(body: () => void): Pass[] {
  const passes: Pass[] = [];
  const operators = native as unknown as Record<string, (options: Options) => void>;
  const originals = operatorNames.map((name) => [name, operators[name]!] as const);
  for (const [operator, original] of originals) {
    operators[operator] = (options) => {
      const [read, written] = counted[operator]?.(options) ?? [0, 0];
      passes.push({ operator, read, written });
      if (operator === 'matrixProduct' && finishes(options)) {
        passes.push({ operator: 'matrixProduct, second pass', read: area(options), written: area(options) });
      }
      original(options);
    };
  }
  try {
    body();
  } finally {
    for (const [name, original] of originals) operators[name] = original;
  }
  return passes;
}

/** A training step, and the same inputs without gradients. */
function stepOf(model: PretrainedModel, forward: () => Tensor): Step {
  let loss: Tensor | null = null;
  model.train();
  const training = passesOf(() => {
    loss = forward();
  });
  const backward = passesOf(() => loss!.backward());
  model.eval();
  noGrad(forward); // fills the caches
  return { forward: training, backward, evaluation: passesOf(() => noGrad(forward)) };
}

function tokens(rows: number, length: number): Tensor {
  return integers(randomIds(rows * length, 50, 1), length);
}

function integers(values: Int32Array, columns: number): Tensor {
  return Tensor.from(values, [values.length / columns, columns], { device: 'cpu' });
}

/** The memory is as long as the segment, and full. */
function transformerXL(layers: number): Step {
  const { batch, length, dModel, dInner, heads, headDim } = sizes;
  const model = new TransformerXLLMHeadModel(
    {
      ...{ vocabSize: 50, cutoffs: [], divVal: 1, tieProjs: [false], nLayer: layers, dModel, dEmbed: dModel },
      ...{ nHead: heads, dHead: headDim, dInner, dropout: 0.1, dropatt: 0.1, memLen: length, clampLen: -1 },
    },
    { seed: 1, device: 'cpu' },
  );
  const inputIds = tokens(batch, length);
  let mems: Memory | null = null;
  const forward = () => {
    const out = model.forward({ inputIds, targets: inputIds, mems: mems ?? undefined });
    mems = out.mems;
    return out.loss as Tensor;
  };
  noGrad(forward);
  return stepOf(model, forward);
}

/** One stream, as in fine-tuning, or both, with `targets` positions to predict. */
function xlnet(layers: number, twoStreams: boolean): Step {
  const { batch, length, dModel, dInner, heads, targets } = sizes;
  const model = new XLNetLMHeadModel(
    {
      vocabSize: 50,
      nLayer: layers,
      dModel,
      nHead: heads,
      dInner,
      ffActivation: 'gelu',
      dropout: 0.1,
      useMemsEval: false,
    },
    { seed: 1, device: 'cpu' },
  );
  const inputIds = tokens(batch, length);
  const ascending = (columns: number) => Int32Array.from({ length: batch * columns }, (_, index) => index % columns);
  const predicted = {
    targetPositions: integers(ascending(targets), targets),
    queryRanks: integers(ascending(length), length),
    keyRanks: integers(ascending(length), length),
    labels: tokens(batch, targets),
  };
  const inputs = { inputIds, ...(twoStreams ? predicted : { labels: inputIds }) };
  return stepOf(model, () => model.forward(inputs).loss as Tensor);
}

/** The operators that a second layer adds, in bytes per element of [rows, dModel]. */
function ofOneLayer(two: Pass[], one: Pass[]): string[][] {
  const rows = sizes.batch * sizes.length * sizes.dModel;
  const key = ({ operator, read, written }: Pass) => [operator, read, written].join('/');
  const counts = new Map<string, number>();
  for (const pass of two) counts.set(key(pass), (counts.get(key(pass)) ?? 0) + 1);
  for (const pass of one) counts.set(key(pass), (counts.get(key(pass)) ?? 0) - 1);
  const bytes = (elements: string) => (Number(elements) * elementBytes) / rows;
  const total = { passes: 0, read: 0, written: 0 };
  const lines = [...counts]
    .filter(([, count]) => count > 0)
    .map(([line, count]) => {
      const [operator, read, written] = line.split('/') as [string, string, string];
      total.passes += count;
      total.read += count * bytes(read);
      total.written += count * bytes(written);
      return [operator, String(count), bytes(read).toFixed(1), bytes(written).toFixed(1)];
    });
  return [...lines, ['sum', String(total.passes), total.read.toFixed(1), total.written.toFixed(1)]];
}

for (const [title, run] of [
  ['Transformer-XL', transformerXL],
  ['XLNet', (layers: number) => xlnet(layers, false)],
  ['XLNet, two streams', (layers: number) => xlnet(layers, true)],
] as const) {
  const [two, one] = [run(2), run(1)];
  for (const direction of ['forward', 'backward', 'evaluation'] as const) {
    console.log(`\n${title}, ${direction}\n| operator | times | read each | written each |\n|---|---|---|---|`);
    for (const line of ofOneLayer(two[direction], one[direction])) console.log(`| ${line.join(' | ')} |`);
  }
}
