/** Whole models: gradients against finite differences in double precision, and losses whose labels are ignored. */
import {
  Memory,
  Tensor,
  TransformerXLForSequenceClassification,
  TransformerXLLMHeadModel,
  noGrad,
  type Parameter,
  type TransformerXLOptions,
} from '../../lib';
import { expectClose } from '../support/operators';
import { TestRandom } from '../support/random';

const vocabSize = 23;
const small: TransformerXLOptions = {
  ...{ vocabSize, cutoffs: [7, 15], divVal: 2, nLayer: 2, dModel: 12, dEmbed: 8, nHead: 2, dHead: 5, dInner: 10 },
  ...{ memLen: 6, clampLen: -1, sameLength: false, dropout: 0, dropatt: 0, initStd: 0.4, projInitStd: 0.4 },
};
const cpu64 = { device: 'cpu', dtype: 'float64' } as const;
const random = new TestRandom(31);
const rows = (batch: number, length: number) =>
  Array.from({ length: batch }, () => [...random.integers(length, 0, vocabSize - 1)]);
const tensor = (shape: number[], values = random.normals(shape.reduce((a, b) => a * b, 1))) =>
  Tensor.from(Float64Array.from(values), shape, cpu64);

/**
 * Five-point differences, for layer norms of small rows bend sharply: a truncation of about 1e-20 times a fifth derivative (up to 1e10
 * here), and a rounding of some hundred units of 2^-53 over 1e-5, about 1e-9. A step does not cross ReLU's kink at these weights.
 */
async function derivative(at: (delta: number) => Promise<number>): Promise<number> {
  const step = 1e-5;
  const [far, near] = [(await at(2 * step)) - (await at(-2 * step)), (await at(step)) - (await at(-step))];
  return (8 * near - far) / (12 * step);
}

function expectDerivative(name: string, actual: number, numeric: number): void {
  if (!(Math.abs(actual - numeric) <= 1e-8 + 1e-6 * Math.abs(numeric))) {
    throw new Error(`${name}: got ${actual}, finite differences give ${numeric}`);
  }
}

/** The gradient of every parameter: where it is largest, and at three other elements. */
async function checkGradients(parameters: ReadonlyMap<string, Tensor>, loss: () => Tensor): Promise<void> {
  const value = loss();
  value.backward();
  let largest = 0;
  for (const [name, parameter] of parameters) {
    if (!parameter.grad) throw new Error(`no gradient for ${name}`);
    const gradient = await parameter.grad.data();
    const values = Float64Array.from(await parameter.data());
    const at = async (element: number, delta: number): Promise<number> => {
      const moved = Float64Array.from(values);
      moved[element] = moved[element]! + delta;
      (parameter as Parameter).overwrite(moved);
      return noGrad(loss).item();
    };
    for (let sample = 0; sample < 4; sample += 1) {
      const element = sample === 0 ? indexOfLargest(gradient) : random.integer(0, values.length - 1);
      const numeric = await derivative((delta) => at(element, delta));
      largest = Math.max(largest, Math.abs(numeric));
      expectDerivative(`${name}[${element}]`, gradient[element]!, numeric);
    }
    (parameter as Parameter).overwrite(values);
  }
  expect(largest).toBeGreaterThan(1e-2);
}

function indexOfLargest(values: ArrayLike<number>): number {
  let best = 0;
  for (let index = 1; index < values.length; index += 1) {
    if (Math.abs(values[index]!) > Math.abs(values[best]!)) best = index;
  }
  return best;
}

/** A memory as a first segment leaves it, longer than the segment that follows sees unclamped. */
function memoryOf(model: TransformerXLLMHeadModel, batch: number): Memory {
  return noGrad(() => model.forward({ inputIds: rows(batch, 6), mems: 'empty' })).mems!;
}

test.each([
  ['pre-norm', { preLnorm: true }],
  ['shared position biases', { untieR: false }],
  ['pre-norm, shared position biases', { preLnorm: true, untieR: false }],
  ['clamped distances, same_length', { clampLen: 3, sameLength: true }],
  [
    'clamped distances, same_length, pre-norm, shared biases',
    { clampLen: 3, sameLength: true, preLnorm: true, untieR: false },
  ],
  ['untied output', { tieWordEmbeddings: false, tieProjs: [false, false, false] }],
  ['tied projections in every cluster', { tieProjs: [true, true, true] }],
  ['one table, projected', { divVal: 1 }],
] as const)('%s: every parameter', async (_, more) => {
  const model = new TransformerXLLMHeadModel({ ...small, ...(more as TransformerXLOptions) }, { ...cpu64, seed: 5 });
  const mems = memoryOf(model, 2);
  const [inputIds, targets] = [rows(2, 5), rows(2, 5)];
  targets[1]![2] = -100;
  await checkGradients(model.parameters(), () => model.forward({ inputIds, targets, mems }).loss!);
  model.dispose();
});

test.each([
  ['by head', [2]],
  ['by layer and head', [2, 2]],
])('head_mask %s', async (_, shape) => {
  const model = new TransformerXLLMHeadModel({ ...small, untieR: false }, { ...cpu64, seed: 6 });
  const mems = memoryOf(model, 2);
  const [inputIds, targets] = [rows(2, 5), rows(2, 5)];
  const headMask = tensor(shape, Float64Array.from([0.3, 1.7, 0.6, 1].slice(0, shape.length === 1 ? 2 : 4)));
  await checkGradients(model.parameters(), () => model.forward({ inputIds, targets, mems, headMask }).loss!);
  // A head that is masked out has no part in the loss.
  const off = tensor([2], Float64Array.of(0, 1));
  const plain = await noGrad(() => model.forward({ inputIds, targets, mems })).loss!.item();
  expect(await noGrad(() => model.forward({ inputIds, targets, mems, headMask: off })).loss!.item()).not.toBe(plain);
  model.dispose();
});

test('inputs_embeds: the gradient of the embeddings given, and of every parameter behind them', async () => {
  const model = new TransformerXLLMHeadModel(
    { ...small, tieWordEmbeddings: false, tieProjs: [false, false, false] },
    { ...cpu64, seed: 7 },
  );
  const mems = memoryOf(model, 2);
  const targets = rows(2, 5);
  const inputsEmbeds = Tensor.from(random.normals(2 * 5 * 12), [2, 5, 12], { ...cpu64, requiresGrad: true });
  const behind = [...model.parameters()].filter(([name]) => !name.includes('word_emb'));
  const loss = () => model.forward({ inputsEmbeds, targets, mems }).loss!;
  await checkGradients(new Map<string, Tensor>(behind), loss);
  // The embeddings are no parameter: moved copies are passed on instead.
  const gradient = await inputsEmbeds.grad!.data();
  const values = await inputsEmbeds.data();
  for (const element of [0, 17, 58, 119]) {
    const at = (delta: number) => {
      const moved = Float64Array.from(values);
      moved[element] = moved[element]! + delta;
      return noGrad(() => model.forward({ inputsEmbeds: tensor([2, 5, 12], moved), targets, mems })).loss!.item();
    };
    expectDerivative(`inputsEmbeds[${element}]`, gradient[element]!, await derivative(at));
  }
  // No id was looked up.
  for (const [name, parameter] of model.parameters())
    if (name.includes('word_emb')) expect(parameter.grad ?? null).toBeNull();
  model.dispose();
});

test('sequence classification: every parameter', async () => {
  const model = new TransformerXLForSequenceClassification(
    { ...small, preLnorm: true, numLabels: 3, padTokenId: 0 },
    { ...cpu64, seed: 8 },
  );
  const inputIds = [
    [4, 9, 20, 0, 0],
    [5, 21, 3, 2, 8],
  ];
  await checkGradients(model.parameters(), () => model.forward({ inputIds, labels: [2, 0], mems: 'empty' }).loss!);
  model.dispose();
});

describe('ignored labels', () => {
  const model = new TransformerXLLMHeadModel(small, { ...cpu64, seed: 9 });
  const inputIds = rows(2, 6);
  afterAll(() => model.dispose());

  /** -log p of each target, from the scores of a pass without labels; 0 where it is ignored. */
  async function expectedLosses(targets: number[][]): Promise<number[]> {
    const scores = await noGrad(() => model.forward({ inputIds, mems: 'empty' })).predictionScores!.data();
    return targets.flatMap((row, r) => row.map((id, p) => (id === -100 ? 0 : -scores[(r * 6 + p) * vocabSize + id]!)));
  }
  const meanOf = (losses: number[], targets: number[][]) =>
    losses.reduce((sum, each) => sum + each, 0) / targets.flat().filter((id) => id !== -100).length;

  test.each([
    [
      'some',
      [
        [3, -100, 20, 9, -100, 16],
        [-100, 0, 14, -100, 22, 7],
      ],
    ],
    [
      'a whole row',
      [
        [-100, -100, -100, -100, -100, -100],
        [1, 2, 8, 15, 22, 7],
      ],
    ],
    [
      'all but one',
      [
        [-100, -100, -100, -100, -100, -100],
        [-100, -100, -100, 21, -100, -100],
      ],
    ],
    [
      'none',
      [
        [3, 1, 20, 9, 4, 16],
        [8, 0, 14, 6, 22, 7],
      ],
    ],
  ])('targets, %s: losses by position, and their mean over the others', async (_, targets) => {
    const out = noGrad(() => model.forward({ inputIds, targets, mems: 'empty' }));
    const expected = await expectedLosses(targets);
    expect(out.losses!.shape).toEqual([2, 6]);
    expectClose(await out.losses!.data(), expected, 1e-12);
    expect(await out.loss!.item()).toBeCloseTo(meanOf(expected, targets), 12);
  });

  test('labels: the first of each row counts for nothing, -100 or not; the caller keeps them as they were', async () => {
    const labels = [
      [-100, 3, -100, 20, 9, -100],
      [5, -100, 0, 14, -100, 22],
    ];
    const given = labels.map((row) => [...row]);
    const out = noGrad(() => model.forward({ inputIds, labels: given, mems: 'empty' }));
    const targets = labels.map((row) => [...row.slice(1), -100]);
    const expected = await expectedLosses(targets);
    expect(out.losses!.shape).toEqual([2, 5]);
    expectClose(
      await out.losses!.data(),
      expected.filter((__, index) => index % 6 < 5),
      1e-12,
    );
    expect(await out.loss!.item()).toBeCloseTo(meanOf(expected, targets), 12);
    expect(given).toEqual(labels);
  });

  test.each(['targets', 'labels'] as const)(
    'all %s ignored: a loss of 0 whose gradient is 0 everywhere',
    async (name) => {
      const nothing = inputIds.map((row) => row.map(() => -100));
      const out = model.forward({ inputIds, [name]: nothing, mems: 'empty' });
      expect(await out.loss!.item()).toBe(0);
      expect([...(await out.losses!.data())].every((each) => each === 0)).toBe(true);
      out.loss!.backward();
      let seen = 0;
      for (const parameter of model.parameters().values()) {
        const { grad } = parameter;
        if (!grad) continue;
        seen += 1;
        expect([...(await grad.data())].every((each) => each === 0)).toBe(true);
        parameter.zeroGrad();
      }
      expect(seen).toBeGreaterThan(10);
    },
  );
});
