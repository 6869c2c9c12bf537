import {
  add,
  dropout,
  Generator,
  linear,
  noGrad,
  packWeight,
  scope,
  type Activation,
  type DropoutOptions,
  type Tensor,
} from '../../lib';
import { TestRandom } from '../support/random';
import { checkGradients, epsilon, expectClose, leaf, oddSizes, operand, product, tensor } from '../support/operators';
import { activationReference } from '../support/activations';

const random = new TestRandom(2);

function reference(
  x: ArrayLike<number>,
  w: ArrayLike<number>,
  bias: ArrayLike<number> | null,
  rows: number,
  inner: number,
  columns: number,
): Float64Array {
  const out = new Float64Array(rows * columns);
  for (let n = 0; n < rows; n += 1) {
    for (let o = 0; o < columns; o += 1) {
      let sum = bias ? (bias[o] as number) : 0;
      for (let i = 0; i < inner; i += 1) sum += (x[n * inner + i] as number) * (w[o * inner + i] as number);
      out[n * columns + o] = sum;
    }
  }
  return out;
}

type Leaves = [x: Tensor, w: Tensor, b: Tensor, residual: Tensor];

function separately(out: Tensor, options: DropoutOptions, residual: Tensor | null): Tensor {
  const dropped = dropout(out, options);
  return residual ? add(dropped, residual) : dropped;
}

describe('linear', () => {
  test('equals the sum of products over odd sizes, with bias and every activation, packed or not', async () => {
    const activations: Activation[] = ['none', 'relu', 'gelu', 'geluTanh', 'silu', 'tanh'];
    const shapes = Array.from({ length: 40 }, () => [
      random.pick([...oddSizes, 130, 257]),
      random.pick([...oddSizes, 300, 410]),
      random.pick([...oddSizes, 204, 515]),
    ]);
    for (const [rows, inner, columns] of shapes as [number, number, number][]) {
      const [x, w, b] = [random.normals(rows * inner), random.normals(columns * inner), random.normals(columns)];
      const kind = random.pick(activations);
      const withBias = random.uniform() < 0.7;
      const expected = reference(x, w, withBias ? b : null, rows, inner, columns).map((value) =>
        activationReference(kind, value),
      );
      for (const dtype of ['float64', 'float32'] as const) {
        const weight = tensor(w, [columns, inner], dtype);
        const packed = packWeight(weight);
        for (const use of [null, packed]) {
          const out = linear(tensor(x, [rows, inner], dtype), weight, {
            bias: withBias ? tensor(b, [columns], dtype) : null,
            activation: kind,
            packed: use,
          });
          expectClose(
            await out.data(),
            expected,
            8 * (inner + 4) * epsilon[dtype],
            `${kind} ${rows}x${inner}x${columns} ${dtype}`,
          );
        }
        packed?.dispose();
      }
    }
  });

  test('uses the chosen rows of the weight', async () => {
    const [x, w] = [random.normals(3 * 5), random.normals(11 * 5)];
    const out = linear(tensor(x, [3, 5]), tensor(w, [11, 5]), { rows: { first: 4, count: 6 } });
    expect(out.shape).toEqual([3, 6]);
    expectClose(await out.data(), reference(x, w.slice(20, 50), null, 3, 5, 6), 1e-14);
  });

  test('gradients agree with finite differences', async () => {
    for (const kind of ['none', 'relu', 'gelu', 'geluTanh', 'silu', 'tanh'] as const) {
      for (const [rows, inner, columns] of [
        [1, 1, 1],
        [3, 5, 7],
        [17, 33, 9],
      ] as const) {
        const operands = [[rows, inner], [columns, inner], [columns]].map((shape) => operand(random, shape));
        await checkGradients(random, ([x, w, b]) => linear(x!, w!, { bias: b!, activation: kind }), operands);
      }
    }
    await checkGradients(random, ([x, w]) => linear(x!, w!, { rows: { first: 2, count: 3 } }), [
      operand(random, [4, 6]),
      operand(random, [7, 6]),
    ]);
  });

  test('dropout and residual in the same pass: to the bit what the operators one by one give', async () => {
    for (const kind of ['none', 'relu', 'gelu', 'geluTanh', 'silu', 'tanh'] as const) {
      // Rows that begin with a block of dropout's numbers and rows that do not; few rows; several tiles.
      for (const [rows, inner, columns] of [
        [1, 3, 1],
        [5, 7, 64],
        [17, 33, 41],
        [130, 9, 264],
      ] as const) {
        const shapes = [[rows, inner], [columns, inner], [columns], [rows, columns]];
        const operands = shapes.map((shape) => operand(random, shape));
        const weights = random.normals(rows * columns);
        for (const dtype of ['float64', 'float32'] as const) {
          for (const [probability, withResidual] of [
            [0.3, false],
            [0.3, true],
            [1e-6, true],
            [0, true],
          ] as const) {
            const evaluate = async (fused: boolean) => {
              const [x, w, b, r] = operands.map(({ values, shape }) => leaf(values, shape, dtype)) as Leaves;
              const generator = new Generator(6);
              const residual = withResidual ? r : null;
              const plain = { bias: b, activation: kind };
              const out = fused
                ? linear(x, w, { ...plain, dropout: probability, generator, residual })
                : separately(linear(x, w, plain), { probability, generator }, residual);
              out.backward(tensor(weights, [rows, columns], dtype));
              const grads = [x, w, b, ...(withResidual ? [r] : [])].map(({ grad }) => grad!.data());
              return Promise.all([out.data(), ...grads]);
            };
            const [fused, separate] = [await evaluate(true), await evaluate(false)];
            fused.forEach((values, index) =>
              expectClose(values, separate[index]!, 0, `${kind} ${rows}x${inner}x${columns} ${dtype} ${index}`),
            );
          }
        }
      }
    }
  });

  test('gradients with dropout and residual agree with finite differences', async () => {
    for (const kind of ['none', 'relu', 'gelu', 'geluTanh', 'silu', 'tanh'] as const) {
      const operands = [[5, 7], [9, 7], [9], [5, 9]].map((shape) => operand(random, shape));
      await checkGradients(
        random,
        ([x, w, bias, residual]) =>
          linear(x!, w!, { bias, activation: kind, dropout: 0.4, generator: new Generator(3), residual }),
        operands,
      );
      await checkGradients(
        random,
        ([x, w, bias]) => linear(x!, w!, { bias, activation: kind, dropout: 0.4, generator: new Generator(3) }),
        operands.slice(0, 3),
      );
    }
  });

  test('a residual is added, and gets the gradient', async () => {
    const [rows, inner, columns] = [5, 7, 11];
    const [x, w, r] = [random.normals(rows * inner), random.normals(columns * inner), random.normals(rows * columns)];
    for (const dtype of ['float64', 'float32'] as const) {
      const out = linear(tensor(x, [rows, inner], dtype), tensor(w, [columns, inner], dtype), {
        residual: tensor(r, [rows, columns], dtype),
      });
      const expected = reference(x, w, null, rows, inner, columns).map((value, index) => value + r[index]!);
      expectClose(await out.data(), expected, 8 * (inner + 4) * epsilon[dtype]);
    }
    await checkGradients(random, ([a, b, c]) => linear(a!, b!, { residual: c! }), [
      operand(random, [2, 3, 4]),
      operand(random, [6, 4]),
      operand(random, [2, 3, 6]),
    ]);
  });

  test('a weight used twice gets the sum of both gradients', async () => {
    await checkGradients(random, ([x, w]) => scope(() => linear(linear(x!, w!), w!)), [
      operand(random, [3, 4]),
      operand(random, [4, 4]),
    ]);
  });

  test('wrong shapes and dtypes are refused by name', () => {
    const x = tensor(new Float64Array(6), [2, 3]);
    expect(() => linear(x, tensor(new Float64Array(8), [2, 4]))).toThrow(
      /weight: got shape \[2, 4\], expected \[\*, 3\]/,
    );
    expect(() => linear(x, tensor(new Float64Array(6), [2, 3], 'float32'))).toThrow(/weight: got dtype float32/);
    expect(() => linear(x, tensor(new Float64Array(6), [2, 3]), { bias: tensor([1], [1]) })).toThrow(/bias/);
    expect(() => linear(x, tensor(new Float64Array(6), [2, 3]), { rows: { first: 1, count: 2 } })).toThrow(
      /rows.count/,
    );
    expect(() => noGrad(() => linear({} as never, x))).toThrow(/x: got/);
    const w = tensor(new Float64Array(6), [2, 3]);
    for (const dropout of [1, -0.1, NaN]) expect(() => linear(x, w, { dropout })).toThrow(/dropout: got/);
    expect(() => linear(x, w, { dropout: 0.5 })).toThrow(/generator: linear/);
    expect(() => linear(x, w, { residual: x })).toThrow(/residual: got shape \[2, 3\], expected \[2, 2\]/);
  });

  test('rows and inner size of zero', async () => {
    const out = linear(tensor([], [0, 3]), tensor(new Float64Array(6), [2, 3]));
    expect(out.shape).toEqual([0, 2]);
    const empty = linear(tensor([], [2, 0]), tensor([], [3, 0]), { bias: tensor([1, 2, 3], [3]) });
    expect([...(await empty.data())]).toEqual([1, 2, 3, 1, 2, 3]);
    expect(product(out.shape)).toBe(0);
  });
});
