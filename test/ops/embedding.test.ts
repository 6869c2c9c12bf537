import { embedding, memoryUpdate, permute, reshape, sinusoidPositions, slice } from '../../lib';
import { resolveDevice } from '../../lib/device';
import { TestRandom } from '../support/random';
import { checkGradients, expectClose, ids, oddSizes, onDevice, operand, product, tensor } from '../support/operators';

const random = new TestRandom(4);

describe('embedding', () => {
  test('takes rows, scales them, and leaves out other clusters', async () => {
    for (const columns of oddSizes) {
      const table = random.normals(20 * columns);
      const chosen = random.integers(33, 5, 24);
      const row = (id: number) => [...table.slice((id - 5) * columns, (id - 4) * columns)].map((value) => 3 * value);
      const out = embedding(ids(chosen, [3, 11]), tensor(table, [20, columns]), { scale: 3, firstId: 5 });
      expect(out.shape).toEqual([3, 11, columns]);
      expectClose(await out.data(), [...chosen].flatMap(row), 1e-15);
      const mixed = Int32Array.from(chosen, (id, index) => (index % 3 === 0 ? 100 + id : id));
      const partial = embedding(ids(mixed), tensor(table, [20, columns]), { scale: 3, firstId: 5, partial: true });
      const expected = [...mixed].flatMap((id) => (id >= 100 ? new Array<number>(columns).fill(0) : row(id)));
      expectClose(await partial.data(), expected, 1e-15);
    }
  });

  test('an id outside the table rejects the read and names position and id; the queue goes on', async () => {
    const table = tensor(random.normals(12), [4, 3]);
    for (const bad of [4, -1, 2 ** 31 - 1, -(2 ** 31)]) {
      const out = embedding(ids([0, 1, bad, 2]), table);
      await expect(out.data()).rejects.toThrow(new RegExp(`embedding.*${bad}`));
      await expect(embedding(ids([0, 3]), table).data()).resolves.toHaveLength(6);
    }
  });

  test('gradients sum over repeated ids', async () => {
    const chosen = ids(random.integers(200, 0, 6));
    await checkGradients(random, ([table]) => embedding(chosen, table!, { scale: 2 }), [operand(random, [7, 5])], 35);
    await checkGradients(
      random,
      ([table]) => embedding(chosen, table!, { firstId: 2, partial: true }),
      [operand(random, [3, 4])],
      12,
    );
  });
});

describe('sinusoidPositions', () => {
  test('is [sin | cos] of clipped distances, ascending', async () => {
    const device = resolveDevice(onDevice.device);
    for (const [count, columns, firstDistance, clamp] of [
      [1, 2, 0, 0],
      [17, 6, -5, 0],
      [40, 82, 0, 11],
      [9, 4, -8, 3],
    ] as const) {
      const expected = Array.from({ length: count }, (_, p) => {
        const distance = firstDistance + p;
        const t = clamp > 0 ? Math.max(-clamp, Math.min(clamp, distance)) : distance;
        const angles = Array.from({ length: columns / 2 }, (__, k) => t * 10000 ** ((-2 * k) / columns));
        return [...angles.map(Math.sin), ...angles.map(Math.cos)];
      }).flat();
      const out = sinusoidPositions({ count, columns, firstDistance, clamp, dtype: 'float64', device });
      expectClose(await out.data(), expected, 1e-13);
    }
  });
});

describe('memoryUpdate', () => {
  test('keeps the last rows of [old; current], of some columns', async () => {
    for (let round = 0; round < 40; round += 1) {
      const [batch, oldLength, currentLength] = [random.integer(1, 3), random.integer(0, 9), random.integer(0, 9)];
      const width = random.integer(1, 20);
      const first = random.integer(0, width - 1);
      const count = random.integer(1, width - first);
      const length = random.integer(0, oldLength + currentLength);
      const [old, current] = [random.normals(batch * oldLength * count), random.normals(batch * currentLength * width)];
      const expected: number[] = [];
      for (let b = 0; b < batch; b += 1) {
        const rows: number[][] = [];
        for (let r = 0; r < oldLength; r += 1)
          rows.push([...old.slice((b * oldLength + r) * count, (b * oldLength + r + 1) * count)]);
        for (let r = 0; r < currentLength; r += 1) {
          const start = (b * currentLength + r) * width + first;
          rows.push([...current.slice(start, start + count)]);
        }
        expected.push(...rows.slice(rows.length - length).flat());
      }
      const out = memoryUpdate(
        oldLength > 0 ? tensor(old, [batch, oldLength, count]) : null,
        { tensor: tensor(current, [batch, currentLength, width]), first, count },
        length,
      );
      expect([...(await out.data())]).toEqual(expected);
    }
  });

  test('more rows than there are is refused', () => {
    expect(() => memoryUpdate(null, tensor(new Float64Array(6), [1, 3, 2]), 4)).toThrow(/length: got 4/);
  });
});

describe('shape operators', () => {
  test('permute, slice and reshape move the right elements and their gradients', async () => {
    const shape = [2, 3, 4, 5];
    const values = Float64Array.from({ length: 120 }, (_, index) => index);
    const permuted = permute(tensor(values, shape), [2, 0, 3, 1]);
    expect(permuted.shape).toEqual([4, 2, 5, 3]);
    const data = await permuted.data();
    const at = (i: number, j: number, k: number, l: number) => ((i * 3 + j) * 4 + k) * 5 + l;
    let index = 0;
    for (let c = 0; c < 4; c += 1)
      for (let a = 0; a < 2; a += 1)
        for (let d = 0; d < 5; d += 1) for (let b = 0; b < 3; b += 1) expect(data[index++]).toBe(at(a, b, c, d));
    for (const axis of [0, 1, 2, 3]) {
      await checkGradients(random, ([x]) => slice(x!, axis, 1, 2), [operand(random, shape)]);
    }
    await checkGradients(random, ([x]) => permute(reshape(x!, [6, 20]), [1, 0]), [operand(random, shape)]);
    const sliced = slice(ids([1, 2, 3, 4, 5, 6], [2, 3]), 1, 1, 3);
    expect([...(await sliced.data())]).toEqual([2, 3, 5, 6]);
    expect(product(slice(sliced, 0, 1, 1).shape)).toBe(0);
    expect(() => reshape(sliced, [5])).toThrow(/shape/);
    expect(() => permute(sliced, [0, 0])).toThrow(/order/);
    expect(() => slice(sliced, 0, 2, 1)).toThrow(/end/);
  });
});
