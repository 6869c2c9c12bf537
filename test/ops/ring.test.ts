import {
  noGrad,
  packedRelativeAttention,
  permutationAttention,
  relativeAttention,
  ringAppend,
  type AttentionBand,
  type FloatDType,
  type Tensor,
} from '../../lib';
import { codeOf } from '../support/errors';
import { emulated, ids, leaf, oddSizes, product, tensor } from '../support/operators';
import { TestRandom } from '../support/random';

const random = new TestRandom(23);

/** Rows of [batch, rows, width] moved so that row j comes to lie at (head + j) mod rows. */
function rotated(values: Float64Array, batch: number, rows: number, head: number): Float64Array {
  const width = values.length / (batch * rows);
  const out = new Float64Array(values.length);
  for (let b = 0; b < batch; b += 1) {
    for (let j = 0; j < rows; j += 1) {
      const from = (b * rows + j) * width;
      out.set(values.subarray(from, from + width), (b * rows + ((head + j) % rows)) * width);
    }
  }
  return out;
}

async function expectSame(actual: readonly Tensor[], expected: readonly Tensor[]): Promise<void> {
  for (const [index, each] of actual.entries()) expect(await each.data()).toEqual(await expected[index]!.data());
}

interface Problem {
  batch: number;
  queries: number;
  memory: number;
  heads: number;
  headDim: number;
  head: number;
  band: AttentionBand;
  memoryStarts: readonly number[] | null;
}

function randomProblem(queries: number): Problem {
  const [batch, memory] = [random.integer(1, 2), random.pick([...oddSizes, 100, emulated ? 100 : 300])];
  return {
    ...{ batch, queries, memory, heads: random.integer(1, 3), headDim: random.pick([1, 3, 8, 41, 64]) },
    head: random.integer(0, memory - 1),
    band: random.pick([{}, { lower: random.integer(0, memory) }, { lower: -1, segment: queries }]),
    memoryStarts: random.pick([true, false]) ? [...random.integers(batch, 0, memory)] : null,
  };
}

/** Decoding, the CPU's and the GPU's kernels for few queries, and the tiles for many. */
const problems = [1, 1, 1, 2, 3, 4, 5, 8, 9, 17, 65].map(randomProblem);

describe('attention over a ring equals attention over the same rows in order, bit for bit', () => {
  test.each(problems.map((problem) => [JSON.stringify(problem), problem] as const))('%s', async (_, problem) => {
    const { batch, queries, memory, heads, headDim, head, band, memoryStarts } = problem;
    const width = heads * headDim;
    const values = (...shape: number[]) => random.normals(product(shape));
    const [kept, packed] = [values(batch, memory, 2, width), values(batch, queries, 3, width)];
    const [keys, vals] = [values(batch, memory, width), values(batch, memory, width)];
    const [q, k, v] = [values(batch, queries, width), values(batch, queries, width), values(batch, queries, width)];
    const r = values(memory + queries, width);
    const u = values(width);
    for (const dtype of ['float32', 'float64'] as const) {
      const rows = (data: Float64Array, count: number) => tensor(data, [batch, count, heads, headDim], dtype);
      const settings = {
        position: tensor(r, [memory + queries, heads, headDim], dtype),
        contentBias: tensor(u, [heads, headDim], dtype),
        positionBias: tensor(u, [heads, headDim], dtype),
        memoryStarts: memoryStarts && ids(memoryStarts),
        band,
      };
      const attend = (order: (data: Float64Array) => Float64Array, memoryHead: Tensor | null) => {
        const packedResult = packedRelativeAttention({
          ...settings,
          queryKeyValue: tensor(packed, [batch, queries, 3, heads, headDim], dtype),
          memoryKeyValue: tensor(order(kept), [batch, memory, 2, heads, headDim], dtype),
          memoryHead,
        });
        const separate = relativeAttention({
          ...settings,
          ...{ query: rows(q, queries), key: rows(k, queries), value: rows(v, queries), memoryHead },
          ...{ memoryKey: rows(order(keys), memory), memoryValue: rows(order(vals), memory) },
        });
        return [packedResult.output, packedResult.probabilities(), separate];
      };
      const ring = attend((data) => rotated(data, batch, memory, head), ids([head]));
      await expectSame(
        ring,
        attend((data) => data, null),
      );
    }
  });
});

test('permutation attention over a ring equals that over the same rows in order, bit for bit', async () => {
  const [batch, length, heads, headDim] = [2, 7, 2, 9];
  for (const [memory, head] of [
    [1, 0],
    [5, 3],
    [40, 39],
  ] as const) {
    for (const dtype of ['float32', 'float64'] as const) {
      const data = (...shape: number[]) => [random.normals(product(shape)), shape] as const;
      const make = ([values, shape]: readonly [Float64Array, readonly number[]]) => tensor(values, shape, dtype);
      const current = Array.from({ length: 4 }, () => make(data(batch, length, heads, headDim)));
      const kept = [data(batch, memory, heads, headDim), data(batch, memory, heads, headDim)] as const;
      const position = make(data(2 * (memory + length), heads, headDim));
      const attend = (order: (values: Float64Array) => Float64Array, memoryHead: Tensor | null) => {
        const [memoryKey, memoryValue] = kept.map(([values, shape]) => make([order(values), shape]));
        const result = permutationAttention({
          ...{ content: current[0]!, query: current[1]!, key: current[2]!, value: current[3]! },
          ...{ memoryKey, memoryValue, memoryHead, position },
          firstDistance: -(memory + length),
          band: { upper: Infinity },
        });
        const probabilities = result.probabilities();
        return [result.content!, result.query!, probabilities.content!, probabilities.query!];
      };
      const ring = attend((values) => rotated(values, batch, memory, head), ids([head]));
      await expectSame(
        ring,
        attend((values) => values, null),
      );
    }
  }
});

describe('ringAppend', () => {
  test('writes over the oldest rows and moves the head', async () => {
    for (let round = 0; round < 40; round += 1) {
      const [batch, length, columns] = [random.integer(1, 3), random.integer(1, 9), random.integer(1, 20)];
      const count = random.integer(0, length);
      const first = random.integer(0, 5);
      const width = first + columns + random.integer(0, 3);
      let head = random.integer(0, length - 1);
      const kept = random.normals(batch * length * columns);
      const added = random.normals(batch * count * width);
      const expected = Float64Array.from(kept);
      for (let b = 0; b < batch; b += 1) {
        for (let i = 0; i < count; i += 1) {
          const row = added.subarray((b * count + i) * width + first, (b * count + i) * width + first + columns);
          expected.set(row, (b * length + ((head + i) % length)) * columns);
        }
      }
      const [ring, at] = [tensor(kept, [batch, length, columns]), ids([head])];
      const rows = { tensor: tensor(added, [batch, count, width]), first, count: columns };
      ringAppend(ring, rows, { head: at, advance: false });
      expect([...(await at.data())]).toEqual([head]);
      ringAppend(ring, rows, { head: at });
      head = (head + count) % length;
      expect([...(await at.data())]).toEqual([head]);
      expect(await ring.data()).toEqual(expected);
    }
  });

  test('refuses what does not fit, naming it', () => {
    const [ring, head] = [tensor(new Float64Array(24), [2, 3, 4]), ids([0])];
    const rows = (...shape: number[]) => tensor(new Float64Array(product(shape)), shape);
    expect(() => ringAppend(ring, rows(2, 4, 4), { head })).toThrow(/rows: got 4, expected at most 3/);
    expect(() => ringAppend(ring, rows(2, 1, 5), { head })).toThrow(/rows: got 5 columns, expected 4/);
    expect(() => ringAppend(ring, rows(1, 1, 4), { head })).toThrow(/rows: got shape/);
    expect(() => ringAppend(ring, tensor([1, 2, 3, 4], [1, 1, 4], 'float32'), { head })).toThrow(/rows: got dtype/);
    expect(() => ringAppend(ring, rows(2, 1, 4), { head: ids([0, 1]) })).toThrow(/head: got shape/);
    expect(() => ringAppend(ring, rows(2, 1, 4), { head: rows(1) })).toThrow(/head: got dtype/);
    expect(() => ringAppend(ring, { tensor: rows(2, 1, 8), first: 5, count: 4 }, { head })).toThrow(/rows.count/);
  });
});

const oneRow = (memory: number, memoryHead: Tensor, dtype: FloatDType = 'float64', make = tensor) => ({
  queryKeyValue: make(random.normals(6), [1, 1, 3, 1, 2], dtype),
  memoryKeyValue: make(random.normals(4 * memory), [1, memory, 2, 1, 2], dtype),
  position: make(random.normals(2 * (memory + 1)), [memory + 1, 1, 2], dtype),
  memoryHead,
});

test.each([-1, 3, 2 ** 31 - 1, -(2 ** 31)])('a head of %d in a ring of 3 is told by the next read', async (head) => {
  const expected = new RegExp(`ring head ${head}, expected 0 \\.\\.\\. 2`);
  const attention = packedRelativeAttention(oneRow(3, ids([head])));
  await expect(attention.output.data()).rejects.toThrow(expected);
  await expect(attention.probabilities().data()).rejects.toThrow(expected);
  const at = ids([head]);
  ringAppend(tensor(new Float64Array(6), [1, 3, 2]), tensor([1, 2], [1, 1, 2]), { head: at });
  await expect(at.data()).rejects.toThrow(expected);
  expect([...(await at.data())]).toEqual([head]);
});

test('a ring has no gradient', async () => {
  const options = oneRow(3, ids([1]), 'float64', leaf);
  expect(await codeOf(() => packedRelativeAttention(options))).toBe('ERR_AUTOGRAD');
  expect(() => noGrad(() => packedRelativeAttention(options))).not.toThrow();
  const rows = () => leaf(random.normals(2), [1, 1, 1, 2]);
  const permuted = {
    ...{ content: rows(), key: rows(), value: rows(), memoryKey: rows(), memoryValue: rows(), memoryHead: ids([0]) },
    position: leaf(random.normals(8), [4, 1, 2]),
    firstDistance: -2,
  };
  expect(await codeOf(() => permutationAttention(permuted))).toBe('ERR_AUTOGRAD');
  expect(() => noGrad(() => permutationAttention(permuted))).not.toThrow();
});
