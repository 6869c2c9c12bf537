/** Every operator with operands of odd sizes, for what must hold of all of them: float32 close to float64, instruction sets alike. */
import {
  activation,
  adam,
  adaptiveLogSoftmax,
  adaptiveSoftmaxLoss,
  add,
  binaryCrossEntropy,
  binaryMask,
  cast,
  concatenate,
  dropout,
  embedding,
  fillRandom,
  Generator,
  globalNorm,
  layerNorm,
  linear,
  mapRows,
  maskedFill,
  meanLabelled,
  meanNonzero,
  memoryUpdate,
  noGrad,
  packedRelativeAttention,
  permute,
  relativeAttention,
  reshape,
  ringAppend,
  sample,
  scale,
  sinusoidPositions,
  slice,
  softmaxCrossEntropy,
  squaredError,
  Tensor,
  topProbabilities,
  type Activation,
  type FloatDType,
  type TypedArray,
} from '../../lib';
import { resolveDevice } from '../../lib/device';
import { fromShortFloat, isShortFloat, toShortFloat } from '../../lib/dtype';
import { device, ids, leaf, onDevice, product, tensor } from './operators';
import { permutationCase } from './permutationCase';
import { TestRandom } from './random';

export interface OperatorCase {
  name: string;
  /** Of the float operands: standard normal numbers that float32 holds exactly. */
  shapes: readonly (readonly number[])[];
  /** Products in the longest sum behind an element of an output or of a gradient. */
  terms: number;
  run(inputs: Tensor[], dtype: FloatDType): readonly Tensor[];
  /**
   * How far the roundings on their way may move the elements of gradients whose terms cancel, where each is by at most `roundoff` of a
   * number; null for the other gradients, of which the largest element says it.
   * @param exact in float64
   */
  gradientRounding?(exact: Evaluated, roundoff: number): Promise<(Float64Array | null)[]>;
}

export interface Evaluated {
  inputs: Float64Array[];
  outputs: TypedArray[];
  /** The gradients that outputs were given, as far as they track any. */
  weights: Float64Array[];
  /** With respect to each float operand; null where none flows. */
  gradients: (TypedArray | null)[];
}

/**
 * What a case gives in a type, and the gradients of sum(weights * output) over the outputs that track any.
 * @param numbers the type that holds all operands exactly
 */
export async function evaluateCase(
  each: OperatorCase,
  dtype: FloatDType,
  numbers: FloatDType = 'float32',
): Promise<Evaluated> {
  const random = new TestRandom(17);
  const round = isShortFloat(numbers)
    ? (values: Float64Array) => Float64Array.from(fromShortFloat(toShortFloat(values, numbers), numbers))
    : (values: Float64Array) => values.map(Math.fround);
  const normals = (count: number) => round(random.normals(count));
  const values = each.shapes.map((shape) => normals(product(shape)));
  const inputs = values.map((numbers, index) => leaf(numbers, each.shapes[index]!, dtype));
  const outputs = each.run(inputs, dtype);
  const weights = outputs.flatMap((output) => {
    if (output.node === null) return [];
    const given = normals(output.size);
    output.backward(tensor(given, output.shape, output.dtype as FloatDType));
    return [given];
  });
  return {
    inputs: values,
    weights,
    outputs: await Promise.all(outputs.map((output) => output.data())),
    gradients: await Promise.all(inputs.map(({ grad }) => grad?.data() ?? null)),
  };
}

/**
 * Relative to the largest element. Rounding errors have random signs, so that a sum of n products is off by about sqrt(n) epsilon;
 * 8 times that for what comes in a chain: scores, their exponentials, sums of those, and the same backwards.
 */
export function toleranceOf({ terms }: OperatorCase, epsilon: number): number {
  return 8 * Math.sqrt(terms + 8) * epsilon;
}

const random = new TestRandom(29);
const dropped = () => ({ dropout: 0.25, generator: new Generator(5) });

function linearCases(): OperatorCase[] {
  const shapesOf = (rows: number, inner: number, columns: number) => [[rows, inner], [columns, inner], [columns]];
  const kinds: Activation[] = ['relu', 'gelu', 'geluTanh', 'silu', 'tanh'];
  return [
    {
      name: 'linear',
      shapes: shapesOf(130, 67, 259),
      terms: 259,
      run: ([x, w, b]) => [linear(x!, w!, { bias: b! })],
    },
    ...kinds.map((kind) => ({
      name: `linear, ${kind}`,
      shapes: shapesOf(33, 21, 47),
      terms: 47,
      run: ([x, w, b]: Tensor[]) => [linear(x!, w!, { bias: b!, activation: kind })],
    })),
    ...(['none', 'relu', 'gelu'] as const).flatMap((kind) =>
      // Rows that begin with a block of dropout's numbers, and rows that do not.
      [48, 47].map((columns) => ({
        name: `linear, ${kind}, dropout, ${columns} columns`,
        shapes: shapesOf(33, 21, columns),
        terms: columns,
        run: ([x, w, b]: Tensor[]) => [linear(x!, w!, { bias: b!, activation: kind, ...dropped() })],
      })),
    ),
    {
      name: 'linear, residual',
      shapes: [...shapesOf(33, 21, 47), [33, 47]],
      terms: 47,
      run: ([x, w, b, residual]) => [linear(x!, w!, { bias: b!, residual: residual!, ...dropped() })],
    },
    {
      name: 'linear, inOut',
      shapes: [
        [7, 33],
        [33, 3, 11],
      ],
      terms: 33,
      run: ([x, w]) => [linear(x!, w!, { layout: 'inOut' })],
    },
    {
      name: 'linear, rows',
      shapes: [
        [9, 41],
        [50, 41],
      ],
      terms: 41,
      run: ([x, w]) => [linear(x!, w!, { rows: { first: 3, count: 31 } })],
    },
    {
      name: 'mapRows',
      shapes: [[2, 17, 33]],
      terms: 17,
      run: ([x], dtype) => [
        mapRows(x!, tensor(new TestRandom(3).normals(2 * 9 * 17).map(Math.fround), [2, 9, 17], dtype)),
      ],
    },
  ];
}

function elementCases(): OperatorCase[] {
  const shape = [3, 5, 77];
  const kinds: Activation[] = ['relu', 'gelu', 'geluTanh', 'silu', 'tanh'];
  const bits = Uint8Array.from(random.integers(product(shape), 0, 1));
  const targets = Float64Array.from({ length: product(shape) }, () => Math.fround(random.uniform()));
  return [
    ...kinds.map((kind) => ({
      name: `activation, ${kind}`,
      shapes: [shape],
      terms: 1,
      run: ([x]: Tensor[]) => [activation(x!, kind)],
    })),
    { name: 'cast', shapes: [shape], terms: 1, run: ([x], dtype) => [cast(cast(x!, 'float32'), dtype)] },
    { name: 'add', shapes: [shape, shape], terms: 2, run: ([x, y]) => [add(x!, y!, { alpha: 0.75, beta: -1.5 })] },
    { name: 'scale', shapes: [shape], terms: 1, run: ([x]) => [scale(x!, -2.5)] },
    {
      name: 'dropout',
      shapes: [shape],
      terms: 1,
      run: ([x]) => [dropout(x!, { probability: 0.3, generator: new Generator(2), period: 77 })],
    },
    {
      name: 'maskedFill',
      shapes: [shape],
      terms: 1,
      run: ([x]) => [maskedFill(x!, Tensor.from(bits, shape, onDevice), -3)],
    },
    { name: 'binaryMask', shapes: [shape], terms: 1, run: ([x]) => [binaryMask(x!), binaryMask(x!, true)] },
    {
      name: 'squaredError',
      shapes: [shape],
      terms: 1,
      run: ([x], dtype) => [squaredError(x!, tensor(targets, shape, dtype))],
    },
    {
      name: 'binaryCrossEntropy',
      shapes: [shape],
      terms: 1,
      run: ([x], dtype) => [binaryCrossEntropy(x!, tensor(targets, shape, dtype))],
    },
    {
      name: 'reshape and permute',
      shapes: [shape],
      terms: 1,
      run: ([x]) => [permute(reshape(x!, [15, 7, 11]), [2, 0, 1])],
    },
    { name: 'slice', shapes: [shape], terms: 1, run: ([x]) => [slice(x!, 1, 1, 4)] },
    { name: 'concatenate', shapes: [shape, [3, 2, 77]], terms: 1, run: ([x, y]) => [concatenate([x!, y!], 1)] },
    {
      name: 'memoryUpdate',
      shapes: [
        [2, 5, 9],
        [2, 3, 21],
      ],
      terms: 1,
      run: ([old, x]) => [memoryUpdate(old!, { tensor: x!, first: 7, count: 9 }, 6)],
    },
    {
      name: 'ringAppend, and attention over the ring',
      shapes: [
        [2, 7, 24],
        [2, 3, 36],
        [10, 3, 4],
      ],
      terms: 2 * 4 + 10,
      run: ([memory, x, position]) =>
        noGrad(() => {
          const [ring, head] = [scale(memory!, 1), ids([5])];
          const queryKeyValue = reshape(x!, [2, 3, 3, 3, 4]);
          const memoryKeyValue = reshape(ring, [2, 7, 2, 3, 4]);
          const settings = { queryKeyValue, memoryKeyValue, position: position!, memoryHead: head };
          const before = packedRelativeAttention(settings).output;
          ringAppend(ring, { tensor: x!, first: 12, count: 24 }, { head });
          return [before, packedRelativeAttention(settings).output, ring, head];
        }),
    },
  ];
}

function rowCases(): OperatorCase[] {
  const [rows, columns] = [19, 259];
  const labels = Int32Array.from({ length: rows }, (_, row) => (row % 5 === 3 ? -100 : random.integer(0, columns - 1)));
  const words = random.integers(4 * 33, 0, 40);
  return [
    {
      name: 'layerNorm',
      shapes: [[rows, columns], [columns], [columns], [rows, columns]],
      terms: columns,
      run: ([x, w, b, residual]) => [layerNorm(x!, w!, b!, { epsilon: 1e-5, residual: residual!, ...dropped() })],
    },
    {
      name: 'embedding',
      shapes: [[41, 35]],
      terms: 33,
      run: ([table]) => [embedding(ids(words, [4, 33]), table!, { scale: 1.5 })],
    },
    {
      name: 'embedding, partial',
      shapes: [[11, 35]],
      terms: 33,
      run: ([table]) => [embedding(ids(words), table!, { firstId: 9, partial: true })],
    },
    {
      name: 'sinusoidPositions',
      shapes: [],
      terms: 1,
      run: (_, dtype) => [
        sinusoidPositions({
          count: 37,
          columns: 46,
          firstDistance: -5,
          clamp: 20,
          dtype,
          device: resolveDevice(device),
        }),
      ],
    },
    {
      name: 'softmaxCrossEntropy',
      shapes: [[rows, columns]],
      terms: columns,
      run: ([x]) => [softmaxCrossEntropy(x!, ids(labels))],
    },
    { name: 'meanNonzero', shapes: [[1001]], terms: 1001, run: ([x]) => [meanNonzero(x!)] },
    { name: 'meanLabelled', shapes: [[rows]], terms: rows, run: ([x]) => [meanLabelled(x!, ids(labels))] },
    {
      name: 'topProbabilities',
      shapes: [[rows, columns]],
      terms: columns,
      run: ([x]) => {
        const { probabilities, top, indices } = topProbabilities(x!, 5);
        return [probabilities, top, indices];
      },
    },
    {
      name: 'sample',
      shapes: [[rows, columns]],
      terms: columns,
      run: ([x]) => {
        const drawn = sample(x!, { temperature: 0.8, topK: 40, topP: 0.9, generator: new Generator(8) });
        return [drawn.ids, drawn.logProbability];
      },
    },
  ];
}

function adaptiveCases(): OperatorCase[] {
  const labels = ids([0, 5, 8, -100, 10, 36, 37, 60, 3, 12, 11]);
  const clustersOf = (tensors: Tensor[], projected: boolean) => {
    const sizes = [
      [0, 11],
      [11, 26],
      [37, 33],
    ] as const;
    return sizes.map(([firstId, size]) => ({
      firstId,
      size,
      weight: tensors.shift()!,
      bias: tensors.shift()!,
      projection: projected ? tensors.shift()! : null,
    }));
  };
  const operandsOf = (given: Tensor[], projected: boolean) => {
    const tensors = [...given];
    const clusters = clustersOf(tensors, projected);
    return { clusters, clusterWeight: tensors[0]!, clusterBias: tensors[1]! };
  };
  const [hidden, head, middle, last] = [
    [11, 35],
    [11, 35],
    [26, 17],
    [33, 5],
  ];
  const plain = [hidden, head, [11], [26, 35], [26], [33, 35], [33], [2, 35], [2]] as number[][];
  const projected = [
    hidden,
    head,
    [11],
    [35, 35],
    middle,
    [26],
    [35, 17],
    last,
    [33],
    [35, 5],
    [2, 35],
    [2],
  ] as number[][];
  return [
    {
      name: 'adaptiveSoftmaxLoss',
      shapes: plain,
      terms: 35 * 2,
      run: ([h, ...rest]) => [adaptiveSoftmaxLoss(h!, labels, operandsOf(rest, false))],
    },
    {
      name: 'adaptiveSoftmaxLoss, projected',
      shapes: projected,
      terms: 35 * 35, // a sum over products that are sums themselves
      run: ([h, ...rest]) => [adaptiveSoftmaxLoss(h!, labels, operandsOf(rest, true))],
    },
    {
      name: 'adaptiveLogSoftmax',
      shapes: projected,
      terms: 35 * 35,
      run: ([h, ...rest]) => [adaptiveLogSoftmax(h!, operandsOf(rest, true))],
    },
  ];
}

function attentionCases(): OperatorCase[] {
  const causal = (headDim: number, dropping: boolean): OperatorCase => {
    const [queries, memory] = [35, 19];
    const [batch, heads] = headDim > 41 ? [1, 1] : [2, 3];
    const rows = (length: number) => [batch, length, heads, headDim];
    return {
      name: `relativeAttention, head size ${headDim}${dropping ? ', dropout' : ''}`,
      shapes: [
        ...[rows(queries), rows(queries), rows(queries), rows(memory), rows(memory)],
        ...[
          [queries + memory, heads, headDim],
          [heads, headDim],
          [heads, headDim],
        ],
      ],
      // Scores of 2 headDim products enter the exponent, and sums over all keys follow.
      terms: 2 * headDim + queries + memory,
      run: ([query, key, value, memoryKey, memoryValue, position, contentBias, positionBias]) => [
        relativeAttention({
          ...{
            query: query!,
            key: key!,
            value: value!,
            memoryKey,
            memoryValue,
            position: position!,
            contentBias,
            positionBias,
          },
          ...(dropping ? dropped() : {}),
        }),
      ],
    };
  };
  return [
    ...[1, 41, 80, 128, 256].map((headDim) => causal(headDim, false)),
    causal(17, true),
    {
      name: 'packedRelativeAttention, window',
      shapes: [
        [2, 37, 3, 2, 24],
        [2, 11, 2, 2, 24],
        [48, 2, 24],
        [2, 24],
        [2, 24],
      ],
      terms: 48 + 48,
      run: ([queryKeyValue, memoryKeyValue, position, contentBias, positionBias]) => {
        const { output, probabilities } = packedRelativeAttention({
          ...{ queryKeyValue: queryKeyValue!, memoryKeyValue, position: position!, contentBias, positionBias },
          band: { lower: 2, segment: 5 },
        });
        return [output, probabilities()];
      },
    },
    permutationCase(random, 16),
    permutationCase(random, 33),
  ];
}

function optimizerCases(): OperatorCase[] {
  const sizes = [[7], [13, 79], [1]];
  return [
    { name: 'globalNorm', shapes: sizes, terms: 1100, run: (tensors) => [globalNorm(tensors, 0.5)] },
    ...[false, true].map((decoupled) => ({
      name: decoupled ? 'adamW' : 'adam',
      shapes: [[1003], [1003]],
      terms: 8,
      run: ([parameter, gradient]: Tensor[], dtype: FloatDType) => {
        const [weight, first, second] = [0, 1, 2].map(() => tensor(new Float64Array(1003), [1003], dtype)) as [
          Tensor,
          Tensor,
          Tensor,
        ];
        add(parameter!.detach(), weight, { alpha: 1, beta: 0, out: weight });
        for (const step of [1, 2, 3]) {
          adam({
            tensors: [
              { parameter: weight, gradient: gradient!, firstMoment: first, secondMoment: second, weightDecay: 0.1 },
            ],
            ...{ learningRate: 0.01, beta1: 0.9, beta2: 0.99, epsilon: 1e-8, step, decoupled },
            clip: globalNorm([gradient!], 1),
          });
        }
        return [weight, first, second];
      },
    })),
    {
      name: 'fillRandom',
      shapes: [],
      terms: 1,
      run: (_, dtype) =>
        (['normal', 'uniform'] as const).map((kind) => {
          const out = Tensor.zeros([515], { ...onDevice, dtype });
          fillRandom(out, { kind, a: -1, b: 2 }, new Generator(21));
          return out;
        }),
    },
  ];
}

export const operatorCases: readonly OperatorCase[] = [
  ...linearCases(),
  ...elementCases(),
  ...rowCases(),
  ...adaptiveCases(),
  ...attentionCases(),
  ...optimizerCases(),
];
