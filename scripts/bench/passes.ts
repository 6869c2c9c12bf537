/**
 * What a layer moves in a training step besides products and attention: every operator between them, with the bytes that it reads and
 * writes per element of [rows, dModel], counted by running models of one and of two layers on the CPU. Types of 16 bits are assumed: 2
 * bytes an element. `npx ts-node scripts/bench/passes.ts` prints the tables of docs/benchmarks.md; scripts/reference/eager_passes.py
 * counts what eager PyTorch moves.
 */
import { Tensor, TransformerXLLMHeadModel, XLNetLMHeadModel } from '../../lib';
import { native } from '../../lib/native';
import { randomIds } from './measure';

const elementBytes = 2;

/** Prime factors that no other size has, so that one layer's share is told from weights, positions and the output layer. */
const sizes = { batch: 3, length: 22, dModel: 40, dInner: 160, heads: 2, headDim: 20, targets: 4 };

interface Pass {
  operator: string;
  read: number;
  written: number;
}

type Options = Record<string, unknown>;

const present = (options: Options, ...names: string[]) => names.filter((name) => options[name]).length;

/** Elements that an operator reads and writes, of its operands of [rows, columns]; biases and statistics are left out. */
const counted: Record<string, (options: Options) => [read: number, written: number]> = {
  add: (o) => each(o.count, present(o, 'x', 'y'), 1),
  dropout: (o) => each(o.count, 1, 1),
  activation: (o) => each(o.count, 1, 1),
  activationGradient: (o) => each(o.count, o.activation === 'none' ? 1 : 2, 1),
  columnSum: (o) => each((o.rows as number) * (o.columns as number), 1, 0),
  layerNorm: (o) =>
    each((o.rows as number) * (o.columns as number), present(o, 'x', 'residual'), present(o, 'y', 'sum')),
  layerNormGradient: (o) =>
    each((o.rows as number) * (o.columns as number), 2, present(o, 'xGradient', 'residualGradient')),
  copyStrided: (o) => each((o.outer as number) * (o.rows as number) * (o.columns as number), 1, 1),
  permute: (o) =>
    each(
      (o.size as number[]).reduce((a, b) => a * b, 1),
      1,
      1,
    ),
  memoryUpdate: (o) => each((o.batch as number) * (o.outLength as number) * (o.columns as number), 1, 1),
  fill: (o) => each(o.count, 0, 1),
};

function each(count: unknown, read: number, written: number): [number, number] {
  return [(count as number) * read, (count as number) * written];
}

/** Runs `body`, noting the passes over memory; products, attention, weights' copies and losses are left out. */
function passesOf(body: () => void): Pass[] {
  const passes: Pass[] = [];
  const operators = native as unknown as Record<string, (options: Options) => void>;
  const originals = Object.keys(counted).map((name) => [name, operators[name]!] as const);
  for (const [name, original] of originals) {
    operators[name] = (options) => {
      const [read, written] = counted[name]!(options);
      passes.push({ operator: name, read, written });
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

function tokens(rows: number, length: number): Tensor {
  return integers(randomIds(rows * length, 50, 1), length);
}

function integers(values: Int32Array, columns: number): Tensor {
  return Tensor.from(values, [values.length / columns, columns], { device: 'cpu' });
}

/** Transformer-XL, memory as long as the segment, in its second step: the memory is full. */
function transformerXL(layers: number): Record<'forward' | 'backward', Pass[]> {
  const { batch, length, dModel, dInner, heads, headDim } = sizes;
  const model = new TransformerXLLMHeadModel(
    {
      ...{ vocabSize: 50, cutoffs: [], divVal: 1, tieProjs: [false], nLayer: layers, dModel, dEmbed: dModel },
      ...{ nHead: heads, dHead: headDim, dInner, dropout: 0.1, dropatt: 0.1, memLen: length, clampLen: -1 },
    },
    { seed: 1, device: 'cpu' },
  );
  model.train();
  const inputIds = tokens(batch, length);
  const { mems } = model.forward({ inputIds });
  let loss: Tensor | null = null;
  const forward = passesOf(() => {
    loss = model.forward({ inputIds, targets: inputIds, mems: mems! }).loss;
  });
  return { forward, backward: passesOf(() => loss!.backward()) };
}

/** XLNet, fine-tuning: the content stream alone; or both, `targets` positions predicted. */
function xlnet(layers: number, twoStreams: boolean): Record<'forward' | 'backward', Pass[]> {
  const { batch, length, dModel, dInner, heads, targets } = sizes;
  const model = new XLNetLMHeadModel(
    { vocabSize: 50, nLayer: layers, dModel, nHead: heads, dInner, ffActivation: 'gelu', dropout: 0.1 },
    { seed: 1, device: 'cpu' },
  );
  model.train();
  const inputIds = tokens(batch, length);
  const predicted = {
    targetPositions: integers(
      Int32Array.from({ length: batch * targets }, (_, index) => index % targets),
      targets,
    ),
    queryRanks: integers(
      Int32Array.from({ length: batch * length }, (_, index) => index % length),
      length,
    ),
    keyRanks: integers(
      Int32Array.from({ length: batch * length }, (_, index) => index % length),
      length,
    ),
    labels: tokens(batch, targets),
  };
  let loss: Tensor | null = null;
  const forward = passesOf(() => {
    loss = model.forward({ inputIds, ...(twoStreams ? predicted : { labels: inputIds }) }).loss;
  });
  return { forward, backward: passesOf(() => loss!.backward()) };
}

/** The passes that a second layer adds, in bytes per element of [rows, dModel]. */
function ofOneLayer(two: Pass[], one: Pass[]): string[][] {
  const rows = sizes.batch * sizes.length * sizes.dModel;
  const key = ({ operator, read, written }: Pass) => `${operator} ${read} ${written}`;
  const counts = new Map<string, number>();
  for (const pass of two) counts.set(key(pass), (counts.get(key(pass)) ?? 0) + 1);
  for (const pass of one) counts.set(key(pass), (counts.get(key(pass)) ?? 0) - 1);
  const bytes = (elements: string) => (Number(elements) * elementBytes) / rows;
  let total = 0;
  const lines = [...counts]
    .filter(([, count]) => count > 0)
    .map(([line, count]) => {
      const [operator, read, written] = line.split(' ') as [string, string, string];
      total += count * (bytes(read) + bytes(written));
      return [operator, String(count), bytes(read).toFixed(1), bytes(written).toFixed(1)];
    });
  return [...lines, ['sum', '', '', total.toFixed(1)]];
}

for (const [title, run] of [
  ['Transformer-XL', transformerXL],
  ['XLNet', (layers: number) => xlnet(layers, false)],
  ['XLNet, two streams', (layers: number) => xlnet(layers, true)],
] as const) {
  const [two, one] = [run(2), run(1)];
  for (const direction of ['forward', 'backward'] as const) {
    console.log(`\n${title}, ${direction}\n| operator | passes | read | written |\n|---|---|---|---|`);
    for (const line of ofOneLayer(two[direction], one[direction])) console.log(`| ${line.join(' | ')} |`);
  }
}
