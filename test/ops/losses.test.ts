import {
  adaptiveLogSoftmax,
  adaptiveSoftmaxLoss,
  binaryCrossEntropy,
  meanNonzero,
  softmaxCrossEntropy,
  squaredError,
  type AdaptiveSoftmaxOperands,
  type Tensor,
} from '../../lib';
import { TestRandom } from '../support/random';
import {
  checkGradients,
  epsilon,
  expectClose,
  ids,
  operand,
  oddSizes,
  tensor,
  type Operand,
} from '../support/operators';

const random = new TestRandom(5);

function logSoftmax(logits: readonly number[]): number[] {
  const top = Math.max(...logits);
  const sum = logits.reduce((total, value) => total + Math.exp(value - top), 0);
  return logits.map((value) => value - top - Math.log(sum));
}

describe('softmaxCrossEntropy', () => {
  test('is the negative log-probability of the label, 0 where ignored', async () => {
    for (const columns of [...oddSizes, 1000]) {
      const rows = random.integer(1, 40);
      const logits = random.normals(rows * columns, 5);
      const labels = Int32Array.from({ length: rows }, () =>
        random.uniform() < 0.2 ? -100 : random.integer(0, columns - 1),
      );
      const expected = [...labels].map((label, row) =>
        label === -100 ? 0 : -(logSoftmax([...logits.slice(row * columns, (row + 1) * columns)])[label] as number),
      );
      for (const dtype of ['float64', 'float32'] as const) {
        expectClose(
          await softmaxCrossEntropy(tensor(logits, [rows, columns], dtype), ids(labels)).data(),
          expected,
          30 * epsilon[dtype],
        );
      }
    }
  });

  test('gradients; labels out of range reject the read', async () => {
    const labels = ids([0, 4, -100, 2]);
    await checkGradients(random, ([x]) => softmaxCrossEntropy(x!, labels), [operand(random, [4, 5], 2)], 20);
    for (const bad of [5, -1, -101]) {
      await expect(softmaxCrossEntropy(tensor(new Float64Array(5), [1, 5]), ids([bad])).data()).rejects.toThrow(
        new RegExp(`${bad}`),
      );
    }
  });
});

interface AdaptiveCase {
  cutoffs: number[];
  vocabulary: number;
  dModel: number;
  widths: number[];
  projected: boolean;
  reversed: boolean;
}

const adaptiveCases: AdaptiveCase[] = [
  { cutoffs: [], vocabulary: 17, dModel: 8, widths: [8], projected: false, reversed: false },
  { cutoffs: [], vocabulary: 17, dModel: 8, widths: [5], projected: true, reversed: false },
  { cutoffs: [5, 9], vocabulary: 30, dModel: 8, widths: [8, 4, 2], projected: true, reversed: false },
  { cutoffs: [5, 9], vocabulary: 30, dModel: 8, widths: [8, 4, 2], projected: true, reversed: true },
  { cutoffs: [3], vocabulary: 70, dModel: 6, widths: [6, 6], projected: false, reversed: false },
];

function shapesOf({ cutoffs, vocabulary, dModel, widths, projected }: AdaptiveCase): number[][] {
  const ends = [...cutoffs, vocabulary];
  const shapes = ends.flatMap((end, c) => {
    const size = end - (ends[c - 1] ?? 0);
    const width = widths[c]!;
    return [[size, width], [size], ...(projected ? [[dModel, width]] : [])];
  });
  return cutoffs.length > 0 ? [...shapes, [cutoffs.length, widths[0]!], [cutoffs.length]] : shapes;
}

function build(
  tensors: readonly Tensor[],
  { cutoffs, vocabulary, projected, reversed }: AdaptiveCase,
): AdaptiveSoftmaxOperands {
  const rest = [...tensors];
  const ends = [...cutoffs, vocabulary];
  const clusters = ends.map((end, c) => {
    const firstId = ends[c - 1] ?? 0;
    const [weight, bias] = rest.splice(0, 2) as [Tensor, Tensor];
    return { firstId, size: end - firstId, weight, bias, projection: projected ? rest.shift()! : null };
  });
  const [clusterWeight = null, clusterBias = null] = rest;
  return { clusters, clusterWeight, clusterBias, reversedClusters: reversed };
}

/** Log-probabilities of all ids for one hidden state, from the definition. */
function adaptiveReference(hidden: readonly number[], values: readonly Operand[], problem: AdaptiveCase): number[] {
  const { cutoffs, vocabulary, projected, reversed, dModel, widths } = problem;
  const ends = [...cutoffs, vocabulary];
  const rest = values.map(({ values: array }) => [...array]);
  const clusters = ends.map((end, c) => {
    const size = end - (ends[c - 1] ?? 0);
    const [weight, bias] = rest.splice(0, 2) as [number[], number[]];
    const projection = projected ? rest.shift()! : null;
    return { size, weight, bias, projection, width: widths[c]! };
  });
  const [clusterWeight = [], clusterBias = []] = rest;
  const project = (c: number) => {
    const { projection, width } = clusters[c]!;
    if (!projection) return [...hidden];
    return Array.from({ length: width }, (_, k) =>
      hidden.reduce((sum, value, d) => sum + value * projection[d * width + k]!, 0),
    );
  };
  const logits = (weight: number[], bias: number[], x: number[]) =>
    bias.map((b, o) => x.reduce((sum, value, k) => sum + value * weight[o * x.length + k]!, b));
  const head = project(0);
  const headLog = logSoftmax([
    ...logits(clusters[0]!.weight, clusters[0]!.bias, head),
    ...logits(clusterWeight, clusterBias, head),
  ]);
  const out = headLog.slice(0, clusters[0]!.size);
  for (let c = 1; c < clusters.length; c += 1) {
    const column = clusters[0]!.size + (reversed ? clusters.length - 1 - c : c - 1);
    const tail = logSoftmax(logits(clusters[c]!.weight, clusters[c]!.bias, project(c)));
    out.push(...tail.map((value) => value + headLog[column]!));
  }
  expect(hidden.length).toBe(dModel);
  return out;
}

describe('adaptive softmax', () => {
  test.each(adaptiveCases.map((problem) => [JSON.stringify(problem), problem] as const))(
    'equals its definition: %s',
    async (_, problem) => {
      const rows = 13;
      const { vocabulary, dModel } = problem;
      const values = shapesOf(problem).map((shape) => operand(random, shape));
      const hidden = random.normals(rows * dModel);
      const labels = Int32Array.from({ length: rows }, (__, row) =>
        row === 3 ? -100 : random.integer(0, vocabulary - 1),
      );
      const table = Array.from({ length: rows }, (__, row) =>
        adaptiveReference([...hidden.slice(row * dModel, (row + 1) * dModel)], values, problem),
      );
      const losses = table.map((line, row) => (labels[row] === -100 ? 0 : -line[labels[row]!]!));
      for (const dtype of ['float64', 'float32'] as const) {
        const operands = build(
          values.map(({ values: array, shape }) => tensor(array, shape, dtype)),
          problem,
        );
        const h = tensor(hidden, [rows, dModel], dtype);
        expectClose(await adaptiveSoftmaxLoss(h, ids(labels), operands).data(), losses, 100 * epsilon[dtype], 'loss');
        expectClose(
          await adaptiveLogSoftmax(h, operands).data(),
          table.flat(),
          100 * epsilon[dtype],
          'log-probabilities',
        );
      }
      await checkGradients(
        random,
        ([h, ...tensors]) => adaptiveSoftmaxLoss(h!, ids(labels), build(tensors, problem)),
        [{ shape: [rows, dModel], values: hidden }, ...values],
        5,
      );
    },
  );

  test('a projection shared by clusters gets the sum of their gradients', async () => {
    const labels = ids([0, 5, 3, 6, 1]);
    await checkGradients(
      random,
      ([h, projection, weight, bias, clusterWeight, clusterBias]) =>
        adaptiveSoftmaxLoss(h!, labels, {
          clusters: [
            {
              firstId: 0,
              size: 4,
              weight: weight!,
              bias: bias!,
              weightRows: { first: 0, count: 4 },
              projection: projection!,
            },
            {
              firstId: 4,
              size: 3,
              weight: weight!,
              bias: bias!,
              weightRows: { first: 4, count: 3 },
              projection: projection!,
            },
          ],
          clusterWeight: clusterWeight!,
          clusterBias: clusterBias!,
        }),
      [[5, 6], [6, 3], [7, 3], [7], [1, 3], [1]].map((shape) => operand(random, shape)),
      20,
    );
  });

  test('labels outside the vocabulary reject the read', async () => {
    const operands = build([tensor(new Float64Array(12), [4, 3]), tensor(new Float64Array(4), [4])], {
      cutoffs: [],
      vocabulary: 4,
      dModel: 3,
      widths: [3],
      projected: false,
      reversed: false,
    });
    await expect(adaptiveSoftmaxLoss(tensor([1, 2, 3], [1, 3]), ids([4]), operands).data()).rejects.toThrow(/4/);
  });
});

describe('element losses and means', () => {
  test('squaredError and binaryCrossEntropy equal their definitions', async () => {
    const x = [...random.normals(50, 4), 40, -40, 0];
    const target = x.map(() => random.uniform());
    const [a, b] = [tensor(x, [x.length]), tensor(target, [x.length])];
    expectClose(
      await squaredError(a, b).data(),
      x.map((value, i) => (value - target[i]!) ** 2),
      1e-14,
    );
    const bce = x.map((value, i) => Math.max(value, 0) - value * target[i]! + Math.log1p(Math.exp(-Math.abs(value))));
    expectClose(await binaryCrossEntropy(a, b).data(), bce, 1e-13);
    for (const loss of [squaredError, binaryCrossEntropy]) {
      await checkGradients(random, ([input]) => loss(input!, b), [{ shape: [x.length], values: Float64Array.from(x) }]);
    }
  });

  test('meanNonzero leaves out zeros, in value and gradient', async () => {
    const values = Float64Array.from([0, 3, 0, 5, 4]);
    expect(await meanNonzero(tensor(values, [5])).item()).toBe(4);
    expect(await meanNonzero(tensor([0, 0], [2])).item()).toBe(0);
    await checkGradients(random, ([x]) => meanNonzero(x!), [operand(random, [3000])], 5);
  });
});
