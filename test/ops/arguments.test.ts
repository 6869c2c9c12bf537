/** Integer arguments of the operators: nothing that is no integer of the range passes, and nothing is rounded to one. */
import { Generator, Tensor, type Activation } from '../../lib';
import { resolveDevice } from '../../lib/device';
import * as operators from '../../lib/ops';
import { badIntegers } from '../support/badNumbers';
import { codeOf } from '../support/errors';
import { device as deviceName, ids, onDevice, tensor } from '../support/operators';

const device = resolveDevice(deviceName);
const square = tensor([1, 2, 3, 4], [2, 2]);
const rows = tensor(new Float64Array(12), [1, 3, 1, 4]);
const positions = tensor(new Float64Array(40), [10, 1, 4]);
const bias = tensor([1, 2], [2]);
const generator = new Generator(1);
const attention = { query: rows, key: rows, value: rows, position: positions };

/** The call with one argument open, and a value that is right. */
const integers: [string, (value: number) => unknown, number][] = [
  ['slice: axis', (value) => operators.slice(square, value, 0, 1), 1],
  ['slice: start', (value) => operators.slice(square, 0, value, 2), 1],
  ['slice: end', (value) => operators.slice(square, 0, 1, value), 2],
  ['concatenate: axis', (value) => operators.concatenate([square, square], value), 1],
  ['permute: order', (value) => operators.permute(square, [0, value]), 1],
  ['reshape: shape', (value) => operators.reshape(square, [value, 1]), 4],
  ['linear: rows.first', (value) => operators.linear(square, square, { rows: { first: value, count: 1 } }), 1],
  ['linear: rows.count', (value) => operators.linear(square, square, { rows: { first: 0, count: value } }), 1],
  ['packWeight: rows.count', (value) => operators.packWeight(square, { first: 0, count: value }), 1],
  ['embedding: firstId', (value) => operators.embedding(ids([5]), square, { firstId: value, partial: true }), 4],
  ['sinusoidPositions: count', (count) => sinusoids({ count }), 3],
  ['sinusoidPositions: columns', (columns) => sinusoids({ columns }), 4],
  ['sinusoidPositions: firstDistance', (firstDistance) => sinusoids({ firstDistance }), 3],
  ['sinusoidPositions: clamp', (clamp) => sinusoids({ clamp }), 3],
  ['memoryUpdate: length', (value) => operators.memoryUpdate(null, tensor([1, 2], [1, 2, 1]), value), 1],
  [
    'memoryUpdate: first',
    (first) => operators.memoryUpdate(null, { tensor: tensor([1, 2], [1, 1, 2]), first, count: 1 }, 1),
    1,
  ],
  [
    'memoryUpdate: count',
    (count) => operators.memoryUpdate(null, { tensor: tensor([1, 2], [1, 1, 2]), first: 0, count }, 1),
    1,
  ],
  ['topProbabilities: k', (k) => operators.topProbabilities(square, k), 2],
  ['sample: topK', (topK) => operators.sample(square, { topK, generator }), 1],
  ['Generator: seed', (seed) => new Generator(seed), 7],
  ['Generator: offset', (offset) => new Generator(1, offset), 7],
  ['Generator.from: seed', (seed) => Generator.from({ seed, offset: 0 }), 7],
  ['dropout: period', (period) => operators.dropout(square, { probability: 0.5, period, generator }), 2],
  [
    'relativeAttention: firstDistance',
    (firstDistance) => operators.relativeAttention({ ...attention, firstDistance }),
    -1,
  ],
  [
    'relativeAttention: band.upper',
    (upper) => operators.relativeAttention({ ...attention, firstDistance: -3, band: { upper } }),
    1,
  ],
  ['relativeAttention: band.lower', (lower) => operators.relativeAttention({ ...attention, band: { lower } }), -1],
  [
    'relativeAttention: band.segment',
    (segment) => operators.relativeAttention({ ...attention, band: { lower: 0, segment } }),
    2,
  ],
  ['permutationAttention: firstDistance', (firstDistance) => permuted({ firstDistance }), -4],
  ['permutationAttention: reversedFrom', (reversedFrom) => permuted({ reversedFrom }), 1],
  ['adam: step', (step) => operators.adam({ ...adamOptions(), step }), 1],
  [
    'adaptiveSoftmaxLoss: firstId',
    (firstId) => operators.adaptiveSoftmaxLoss(square, ids([0, 1]), clusters({ firstId })),
    0,
  ],
  ['adaptiveSoftmaxLoss: size', (size) => operators.adaptiveSoftmaxLoss(square, ids([0, 1]), clusters({ size })), 2],
];

function sinusoids(change: object): Tensor {
  return operators.sinusoidPositions({ count: 2, columns: 4, dtype: 'float64', device, ...change });
}

function permuted(change: object): unknown {
  return operators.permutationAttention({
    content: rows,
    key: rows,
    value: rows,
    position: positions,
    firstDistance: -3,
    ...change,
  });
}

function adamOptions() {
  const [parameter, firstMoment, secondMoment] = [0, 1, 2].map(() => tensor([1, 2, 3, 4], [2, 2])) as Tensor[];
  const tensors = [
    { parameter: parameter!, gradient: square, firstMoment: firstMoment!, secondMoment: secondMoment!, weightDecay: 0 },
  ];
  return { tensors, learningRate: 0, beta1: 0, beta2: 0, epsilon: 1, step: 1, decoupled: false };
}

function clusters(change: object) {
  return {
    clusters: [{ firstId: 0, size: 2, weight: square, bias, projection: null, ...change }],
    clusterWeight: null,
    clusterBias: null,
  };
}

/** Counters and distances have no upper limit; what has one refuses all the large integers. */
function lowestOf(name: string): number {
  if (/(seed|offset|step|topK|period|segment)$/.test(name)) return 0;
  return /(firstDistance|clamp|lower|upper|embedding: firstId)$/.test(name) ? -Infinity : Infinity;
}

test.each(integers)('%s', async (name, call, right) => {
  expect(await codeOf(() => call(right))).toBeNull();
  for (const value of [...badIntegers, -(2 ** 40), 2 ** 32 + right]) {
    // No limit is a limit too, for bands.
    if ((value === null && name.endsWith('band.lower')) || (value === Infinity && name.endsWith('band.upper')))
      continue;
    const code = await codeOf(() => call(value as number));
    // A size that is an integer may be more than there is memory for.
    const refusal: unknown = expect.stringMatching(
      Number.isSafeInteger(value) ? /^ERR_(ARG_RANGE|ARG_SHAPE|OUT_OF_MEMORY)$/ : /^ERR_ARG_(TYPE|RANGE|SHAPE)$/,
    );
    const passes = Number.isSafeInteger(value) && (value as number) >= lowestOf(name);
    expect([value, code]).toEqual([value, passes && code === null ? null : refusal]);
  }
});

const reals: [string, (value: number) => unknown][] = [
  ['add: alpha', (alpha) => operators.add(square, square, { alpha })],
  ['scale: factor', (factor) => operators.scale(square, factor)],
  ['dropout: probability', (probability) => operators.dropout(square, { probability, generator })],
  ['layerNorm: epsilon', (epsilon) => operators.layerNorm(square, bias, bias, { epsilon })],
  ['layerNorm: dropout', (value) => operators.layerNorm(square, bias, bias, { epsilon: 1, dropout: value, generator })],
  ['embedding: scale', (value) => operators.embedding(ids([1]), square, { scale: value })],
  [
    'maskedFill: value',
    (value) => operators.maskedFill(square, Tensor.from(new Uint8Array(4), [2, 2], onDevice), value),
  ],
  ['sample: temperature', (temperature) => operators.sample(square, { temperature, generator })],
  ['sample: topP', (topP) => operators.sample(square, { topP, generator })],
  ['relativeAttention: scale', (value) => operators.relativeAttention({ ...attention, scale: value })],
  ['relativeAttention: dropout', (value) => operators.relativeAttention({ ...attention, dropout: value, generator })],
  ['globalNorm: maxNorm', (value) => operators.globalNorm([square], value)],
  ['fillRandom: a', (a) => operators.fillRandom(square.detach(), { kind: 'uniform', a, b: 1 }, generator)],
];

test.each(reals)('%s takes numbers only', async (_, call) => {
  for (const value of badIntegers.filter((each) => typeof each !== 'number')) {
    expect([value, await codeOf(() => call(value as number))]).toEqual([
      value,
      expect.stringMatching(/^ERR_ARG_(TYPE|RANGE)$/),
    ]);
  }
});

test('names', async () => {
  for (const kind of ['', 'GELU', 'constructor', '__proto__', null, 5, {}, Symbol('relu')]) {
    expect(await codeOf(() => operators.activation(square, kind as Activation))).toMatch(/^ERR_ARG_(TYPE|RANGE)$/);
    expect(await codeOf(() => operators.linear(square, square, { activation: kind as Activation }))).toMatch(
      /^ERR_ARG_(TYPE|RANGE)$/,
    );
  }
});

test('lists', async () => {
  for (const list of [null, undefined, 5, 'ab', {}, { 0: square, length: 1 }, [null], [{}], [, square]]) {
    // prettier-ignore
    expect([list, await codeOf(() => operators.concatenate(list as never))]).toEqual([list, expect.stringMatching(/^ERR_ARG_(TYPE|SHAPE)$/)]);
    expect([list, await codeOf(() => operators.globalNorm(list as never, 1))]).toEqual([
      list,
      expect.stringMatching(/^ERR_ARG_(TYPE|SHAPE)$/),
    ]);
  }
  for (const order of [null, undefined, 5, '01', {}, [0], [0, 0], [0, 2], [0, 1, 2], [1, -0.5], Int32Array.of(0, 1)]) {
    expect([order, await codeOf(() => operators.permute(square, order as number[]))]).toEqual([
      order,
      expect.stringMatching(/^ERR_ARG_(TYPE|SHAPE)$/),
    ]);
  }
});
