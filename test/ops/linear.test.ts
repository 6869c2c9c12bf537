import { linear, noGrad, packWeight, scope, type Activation } from '../../lib';
import { TestRandom } from '../support/random';
import { checkGradients, epsilon, expectClose, oddSizes, operand, product, tensor } from '../support/operators';
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
    const [a, b] = [tensor(new Float64Array(6), [2, 3]), tensor(new Float64Array(12), [4, 3])];
    const residual = (...shape: number[]) => tensor(new Float64Array(product(shape)), shape);
    expect(() => linear(a, b, { residual: residual(2, 3) })).toThrow(/residual: got shape/);
    expect(() => linear(a, b, { residual: tensor(new Float64Array(8), [2, 4], 'float32') })).toThrow(
      /residual: got dtype/,
    );
    expect(() => linear(a, b, { residual: residual(2, 4), activation: 'relu' })).toThrow(/residual: .*'relu'/);
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
  });

  test('rows and inner size of zero', async () => {
    const out = linear(tensor([], [0, 3]), tensor(new Float64Array(6), [2, 3]));
    expect(out.shape).toEqual([0, 2]);
    const empty = linear(tensor([], [2, 0]), tensor([], [3, 0]), { bias: tensor([1, 2, 3], [3]) });
    expect([...(await empty.data())]).toEqual([1, 2, 3, 1, 2, 3]);
    expect(product(out.shape)).toBe(0);
  });
});
