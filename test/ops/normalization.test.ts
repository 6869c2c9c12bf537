import { activation, dropout, Generator, layerNorm, type Activation } from '../../lib';
import { activationReference } from '../support/activations';
import { philoxLane16 } from '../support/philox';
import { TestRandom } from '../support/random';
import { checkGradients, epsilon, expectClose, oddSizes, operand, tensor } from '../support/operators';

const random = new TestRandom(3);

/** keep ? x / (1 - p) : 0 with the counters of the contract. */
function dropoutReference(x: ArrayLike<number>, probability: number, seed: number, period = 0): Float64Array {
  const threshold = Math.floor(probability * 65536 + 0.5);
  return Float64Array.from({ length: x.length }, (_, i) => {
    const index = period > 0 ? i % period : i;
    const kept = philoxLane16(seed, 0, [index >>> 3, 0, 0], index & 7) >= threshold;
    return kept ? (x[i] as number) / (1 - probability) : 0;
  });
}

describe('layerNorm', () => {
  test('equals its definition, with residual and dropout', async () => {
    for (let round = 0; round < 30; round += 1) {
      const rows = random.pick(oddSizes);
      const columns = random.pick([...oddSizes, 410]);
      const probability = random.pick([0, 0.3]);
      const useResidual = random.uniform() < 0.5;
      const count = rows * columns;
      const [x, residual, weight, bias] = [
        random.normals(count),
        random.normals(count),
        random.normals(columns),
        random.normals(columns),
      ];
      const dropped = probability > 0 ? dropoutReference(x, probability, 5) : x;
      const expected = new Float64Array(count);
      for (let row = 0; row < rows; row += 1) {
        const s = Array.from(
          { length: columns },
          (_, c) =>
            (dropped[row * columns + c] as number) + (useResidual ? (residual[row * columns + c] as number) : 0),
        );
        const mean = s.reduce((a, b) => a + b, 0) / columns;
        const variance = s.reduce((a, b) => a + (b - mean) ** 2, 0) / columns;
        s.forEach((value, c) => {
          expected[row * columns + c] =
            ((value - mean) / Math.sqrt(variance + 1e-5)) * (weight[c] as number) + (bias[c] as number);
        });
      }
      for (const dtype of ['float64', 'float32'] as const) {
        const out = layerNorm(
          tensor(x, [rows, columns], dtype),
          tensor(weight, [columns], dtype),
          tensor(bias, [columns], dtype),
          {
            epsilon: 1e-5,
            residual: useResidual ? tensor(residual, [rows, columns], dtype) : null,
            dropout: probability,
            generator: new Generator(5),
          },
        );
        // 1 / sqrt(epsilon) amplifies rounding where a row's variance is near zero (one or two columns).
        expectClose(
          await out.data(),
          expected,
          (columns < 4 ? 3000 : 60) * epsilon[dtype],
          `${dtype} ${rows}x${columns}`,
        );
      }
    }
  });

  test('stays accurate when the mean dwarfs the spread', async () => {
    const columns = 512;
    const spread = random.normals(columns);
    const x = Float32Array.from(spread, (value) => 1000 + value);
    const exact = Float64Array.from(x);
    const mean = exact.reduce((a, b) => a + b, 0) / columns;
    const variance = exact.reduce((a, b) => a + (b - mean) ** 2, 0) / columns;
    const ones = new Float64Array(columns).fill(1);
    const out = layerNorm(
      tensor(x, [1, columns], 'float32'),
      tensor(ones, [columns], 'float32'),
      tensor(new Float64Array(columns), [columns], 'float32'),
      { epsilon: 1e-5 },
    );
    // The mean itself rounds to float32: 1000 * 2^-24 against a spread of 1.
    expectClose(
      await out.data(),
      exact.map((value) => (value - mean) / Math.sqrt(variance + 1e-5)),
      2e-4,
    );
  });

  test('gradients agree with finite differences', async () => {
    for (const [rows, columns] of [
      [1, 2],
      [3, 5],
      [17, 33],
      [70, 9],
    ] as const) {
      const operands = [[rows, columns], [columns], [columns], [rows, columns]].map((shape) => operand(random, shape));
      for (const probability of [0, 0.4]) {
        await checkGradients(
          random,
          ([x, w, b, residual]) =>
            layerNorm(x!, w!, b!, {
              epsilon: 1e-2,
              residual: residual!,
              dropout: probability,
              generator: new Generator(7),
            }),
          operands,
        );
      }
      await checkGradients(random, ([x, w, b]) => layerNorm(x!, w!, b!, { epsilon: 1e-2 }), operands.slice(0, 3));
    }
  });
});

describe('dropout', () => {
  test('keeps and scales exactly the elements that the counters say', async () => {
    for (const count of [1, 7, 8, 9, 63, 64, 65, 1000, 4099]) {
      const x = random.normals(count);
      const period = count > 8 ? random.integer(1, count) : 0;
      for (const [p, repeat] of [
        [0.1, 0],
        [0.5, period],
      ] as const) {
        const out = dropout(tensor(x, [count]), { probability: p, generator: new Generator(11), period: repeat });
        expectClose(await out.data(), dropoutReference(x, p, 11, repeat), 4 * epsilon.float64);
      }
    }
  });

  test('the gradient goes where values were kept', async () => {
    await checkGradients(
      random,
      ([x]) => dropout(x!, { probability: 0.3, generator: new Generator(2) }),
      [operand(random, [37])],
      20,
    );
  });

  test('probability 0 changes nothing; 1, negative, NaN and a missing generator are refused', async () => {
    const x = tensor([1, 2, 3], [3]);
    expect([...(await dropout(x, { probability: 0 }).data())]).toEqual([1, 2, 3]);
    for (const probability of [1, -0.1, NaN, 2]) expect(() => dropout(x, { probability })).toThrow(/probability: got/);
    expect(() => dropout(x, { probability: 0.5 })).toThrow(/generator/);
  });
});

describe('activation', () => {
  const kinds: Activation[] = ['none', 'relu', 'gelu', 'geluTanh', 'silu', 'tanh'];
  test.each(kinds)('%s equals its definition and its gradient finite differences', async (kind) => {
    const x = [...random.normals(70, 3), 0, -0, 1e-8, -1e-8, 20, -20, 88, -88];
    const expected = x.map((value) => activationReference(kind, value));
    for (const dtype of ['float64', 'float32'] as const) {
      expectClose(await activation(tensor(x, [x.length], dtype), kind).data(), expected, 16 * epsilon[dtype], dtype);
    }
    await checkGradients(random, ([input]) => activation(input!, kind), [operand(random, [23], 2)], 23);
  });
});
