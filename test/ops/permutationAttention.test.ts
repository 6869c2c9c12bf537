import { add, Generator, permutationAttention, scope, Tensor, type PermutationAttentionOptions } from '../../lib';
import { resolveDevice } from '../../lib/device';
import { mean } from '../../lib/ops/mean';
import {
  emulatedLarge,
  emulatedTiles,
  hasBlindQuery,
  large,
  optionsOf,
  permutationOf,
  type Problem,
  randomProblem,
  reference,
  small,
  title,
} from '../support/permutationProblem';
import { TestRandom } from '../support/random';
import {
  checkGradients,
  emulated,
  onDevice,
  epsilon,
  expectClose,
  ids,
  leaf,
  product,
  tensor,
} from '../support/operators';

describe('permutationAttention', () => {
  const random = new TestRandom(34);
  const problems = Array.from({ length: 40 }, () => randomProblem(random, emulated ? emulatedLarge : large));

  test.each(problems.map((problem) => [title(problem), problem] as const))(
    'equals the formulas: %s',
    async (_, problem) => {
      const { queries, headDim } = problem;
      const content = reference(problem, 'content', 9, 0);
      // The generator's second draw: the query stream has dropout of its own.
      const query = queries > 0 ? reference(problem, 'query', 9, 1) : null;
      for (const dtype of ['float64', 'float32'] as const) {
        const result = scope(() => permutationAttention(optionsOf(problem, dtype)));
        // Scores are sums of 3 headDim products: their rounding enters the exponent.
        const tolerance = 40 * (headDim + 8) * epsilon[dtype];
        expectClose(await result.content!.data(), content.out, tolerance, `${dtype} content`);
        expect(result.query === null).toBe(query === null);
        if (query) expectClose(await result.query!.data(), query.out, tolerance, `${dtype} query`);
      }
    },
  );

  test('probabilities equal the formulas', async () => {
    for (let round = 0; round < 8; round += 1) {
      const problem = randomProblem(random, small);
      const { content, query } = scope(() => permutationAttention(optionsOf(problem, 'float64')).probabilities());
      expectClose(await content!.data(), reference(problem, 'content', 9, 0).probabilities, 1e-11, 'content');
      if (query) expectClose(await query.data(), reference(problem, 'query', 9, 1).probabilities, 1e-11, 'query');
    }
  });

  test.each(['content', 'query'] as const)(
    'gradients of every operand agree with finite differences: %s',
    async (stream) => {
      for (let round = 0; round < (emulated ? 12 : 24); round += 1) {
        const problem = randomProblem(random, small);
        // Rounding hides from differences what flows through the scores of a query that sees nothing.
        if (stream === 'query' && (problem.queries === 0 || hasBlindQuery(problem))) continue;
        const names = [...problem.floats.keys()];
        await checkGradients(
          random,
          (inputs) => {
            const given = new Map(names.map((name, index) => [name, inputs[index] as Tensor]));
            return permutationAttention(optionsOf(problem, 'float64', given))[stream]!;
          },
          [...problem.floats.values()],
          4,
        );
      }
    },
  );

  test('gradients over tiles are those of the formulas', async () => {
    // Both streams at once, longer than a block of keys and with rows that stand far apart; d/dv is linear, so sums check it.
    const problem: Problem = {
      ...randomProblem(
        random,
        emulated ? emulatedTiles : { length: [430], memory: [70], queries: [25], headDim: [16] },
      ),
      dropout: 0,
    };
    const names = [...problem.floats.keys()];
    await checkGradients(
      random,
      (inputs) => {
        const given = new Map(names.map((name, index) => [name, inputs[index] as Tensor]));
        return permutationAttention(optionsOf(problem, 'float64', given)).query!;
      },
      [...problem.floats.values()],
      3,
    );
    await checkGradients(
      random,
      (inputs) => {
        const given = new Map(names.map((name, index) => [name, inputs[index] as Tensor]));
        return permutationAttention(optionsOf(problem, 'float64', given)).content!;
      },
      [...problem.floats.values()],
      3,
    );
  });

  test('gradients of both streams add up', async () => {
    const problem = { ...randomProblem(random, { ...small, queries: [4] }), dropout: 0 };
    const names = [...problem.floats.keys()].filter((name) => name !== 'content' && name !== 'query');
    const run = async (streams: readonly ('content' | 'query')[]): Promise<Float64Array[]> => {
      const leaves = new Map([...problem.floats].map(([name, { shape, values }]) => [name, leaf(values, shape)]));
      const loss = scope(() => {
        const result = permutationAttention(optionsOf(problem, 'float64', leaves));
        const [first, second] = streams.map((stream) => mean(result[stream]!));
        return second ? add(first!, second) : first!;
      });
      loss.backward();
      return Promise.all(names.map(async (name) => (await leaves.get(name)!.grad!.data()) as Float64Array));
    };
    const [content, query, both] = [await run(['content']), await run(['query']), await run(['content', 'query'])];
    names.forEach((name, index) => {
      const sum = content[index]!.map((value, element) => value + (query[index]![element] as number));
      expectClose(both[index]!, sum, 1e-13, name);
    });
  });

  test('a query that sees nothing averages, and its gradient flows as if nothing were subtracted', async () => {
    // XLNet's scores are s - 1e30: the derivative to s is 1, whatever rounding left of s.
    const [length, headDim] = [5, 4];
    const values = new Map(
      (['query', 'key', 'value'] as const).map((name) => [name, random.normals(length * headDim)] as const),
    );
    const shape = [1, length, 1, headDim];
    const leaves = new Map([...values].map(([name, each]) => [name, leaf(each, shape)] as const));
    const same = ids(new Array<number>(length).fill(3), [1, length]);
    const { query } = permutationAttention({
      ...(Object.fromEntries(leaves) as Record<'query' | 'key' | 'value', Tensor>),
      position: tensor(new Float64Array(2 * length * headDim), [2 * length, 1, headDim]),
      firstDistance: -length,
      queryRanks: same,
      keyRanks: same,
    });
    const weights = random.normals(length * headDim);
    query!.backward(tensor(weights, shape));
    const at = (array: ArrayLike<number>, row: number, d: number) => array[row * headDim + d] as number;
    const rows = Array.from({ length }, (_, row) => row);
    const columns = Array.from({ length: headDim }, (_, d) => d);
    const [k, v] = [values.get('key')!, values.get('value')!];
    const sum = (terms: number[]) => terms.reduce((a, b) => a + b, 0);
    const expected = rows.flatMap((n) => {
      const dp = rows.map((j) => sum(columns.map((d) => at(weights, n, d) * at(v, j, d))));
      const delta = sum(dp) / length;
      return columns.map((d) => sum(rows.map((j) => ((dp[j]! - delta) / length) * at(k, j, d))) / Math.sqrt(headDim));
    });
    expectClose(await leaves.get('query')!.grad!.data(), expected, 1e-14, 'query gradient');
    const mean = rows.flatMap(() => columns.map((d) => sum(rows.map((j) => at(v, j, d))) / length));
    expectClose(await query!.data(), mean, 1e-14, 'output');
  });

  test('what the ranks hide has no influence: its gradient is exactly zero', async () => {
    const [batch, length, heads, headDim, queries] = [2, 37, 2, 8, 5];
    const order = Array.from({ length: batch }, () => permutationOf(random, length));
    const positions = Array.from({ length: batch * queries }, () => random.integer(0, length - 1));
    const shape = [batch, length, heads, headDim];
    const make = (rows = length) => leaf(random.normals(batch * rows * heads * headDim), [batch, rows, heads, headDim]);
    for (let row = 0; row < queries; row += 1) {
      const [key, value] = [make(), make()];
      const ranks = ids(order.flat(), [batch, length]);
      const { query } = permutationAttention({
        query: make(queries),
        queryPositions: ids(positions, [batch, queries]),
        key,
        value,
        position: leaf(random.normals(2 * length * heads * headDim), [2 * length, heads, headDim]),
        firstDistance: -length,
        queryRanks: ranks,
        keyRanks: ranks,
      });
      const weights = new Float64Array(product(query!.shape));
      for (let b = 0; b < batch; b += 1) {
        const start = (b * queries + row) * heads * headDim;
        weights.set(random.normals(heads * headDim), start);
      }
      query!.backward(tensor(weights, query!.shape));
      const gradients = [await key.grad!.data(), await value.grad!.data()];
      for (let b = 0; b < batch; b += 1) {
        const own = order[b]![positions[b * queries + row]!]!;
        if (own === 0) continue; // The first of the order sees nothing and averages over all.
        for (let c = 0; c < length; c += 1) {
          const at = (b * length + c) * heads * headDim;
          for (const gradient of gradients) {
            const used = gradient.slice(at, at + heads * headDim).some((each) => each !== 0);
            expect({ b, c, used }).toEqual({ b, c, used: order[b]![c]! < own });
          }
        }
      }
      expect(key.grad!.shape).toEqual(shape);
    }
  });

  test('ranks and the dense mask of the same order agree to the last bit', async () => {
    const [batch, length, heads, headDim] = [2, 61, 2, 16];
    const order = Array.from({ length: batch }, () => permutationOf(random, length));
    const mask = new Uint8Array(batch * length * length);
    for (let b = 0; b < batch; b += 1) {
      for (let p = 0; p < length; p += 1) {
        for (let c = 0; c < length; c += 1)
          mask[(b * length + p) * length + c] = order[b]![c]! >= order[b]![p]! ? 1 : 0;
      }
    }
    const make = () =>
      tensor(random.normals(batch * length * heads * headDim), [batch, length, heads, headDim], 'float32');
    const shared = {
      content: make(),
      query: make(),
      key: make(),
      value: make(),
      position: tensor(random.normals(2 * length * heads * headDim), [2 * length, heads, headDim], 'float32'),
      firstDistance: -length,
    };
    const ranks = ids(order.flat(), [batch, length]);
    const byRanks = permutationAttention({ ...shared, queryRanks: ranks, keyRanks: ranks });
    const dense = permutationAttention({ ...shared, mask: Tensor.from(mask, [batch, length, length], onDevice) });
    expect(await byRanks.content!.data()).toEqual(await dense.content!.data());
    expect(await byRanks.query!.data()).toEqual(await dense.query!.data());
  });

  test('a few queries, read where they lie, give what many give', async () => {
    const problem = {
      ...randomProblem(random, { ...large, length: [150], memory: [64], queries: [3] }),
      dropout: 0.25,
    };
    const { content: _, ...options } = optionsOf(problem, 'float64');
    const alone = permutationAttention({ ...options, generator: new Generator(9) });
    expectClose(await alone.query!.data(), reference(problem, 'query', 9, 0).out, 1e-11, 'query alone');
    expect(alone.content).toBeNull();
  });

  const peakMemoryIsLinear = async (): Promise<void> => {
    const device = resolveDevice(onDevice.device);
    const [heads, headDim] = [2, 16];
    const peaks: number[] = [];
    for (const length of [512, 1024, 2048, 4096, 8192]) {
      const queries = length / 4;
      const make = (rows: number) =>
        leaf(new Float64Array(rows * heads * headDim), [1, rows, heads, headDim], 'float32');
      const operands = { content: make(length), query: make(queries), key: make(length), value: make(length) };
      const position = leaf(new Float64Array(2 * length * heads * headDim), [2 * length, heads, headDim], 'float32');
      const ranks = ids(permutationOf(random, length), [1, length]);
      const queryPositions = ids(permutationOf(random, length).slice(0, queries), [1, queries]);
      await device.synchronize();
      const before = device.memory().liveBytes;
      device.resetPeak();
      const { content, query } = permutationAttention({
        ...operands,
        position,
        firstDistance: -length,
        queryRanks: ranks,
        keyRanks: ranks,
        queryPositions,
      });
      const loss = scope(() => add(mean(content!), mean(query!)));
      loss.backward();
      await device.synchronize();
      const { peakBytes, peakWorkspaceBytes } = device.memory();
      peaks.push(peakBytes - before + peakWorkspaceBytes);
      for (const each of [...Object.values(operands), position, ranks, queryPositions, content!, query!, loss]) {
        each.grad?.dispose();
        each.dispose();
      }
    }
    // The scores of both streams at 8192 would be 2 x 10240 x 8192 floats, 640 MiB; linear growth means 16 times the first.
    expect(peaks[4]! / peaks[0]!).toBeLessThan(20);
    expect(peaks[4]!).toBeLessThan(128 * 2 ** 20);
  };
  // The emulator would take minutes for lengths at which a score matrix stands out.
  if (!emulated) test('peak memory grows linearly with the length, forward and backward', peakMemoryIsLinear);

  test('a position outside the sequence is named', async () => {
    const make = (rows: number) => tensor(new Float64Array(rows * 8), [1, rows, 1, 8]);
    const { query } = permutationAttention({
      query: make(3),
      queryPositions: ids([0, 7, 1], [1, 3]),
      key: make(6),
      value: make(6),
      position: tensor(new Float64Array(12 * 8), [12, 1, 8]),
      firstDistance: -6,
    });
    await expect(query!.data()).rejects.toThrow(
      /permutation_attention: position 7 of row 1, batch row 0, expected -1 ... 5/,
    );
  });

  test('a memory start outside the memory is named', async () => {
    const make = (rows: number) => tensor(new Float64Array(rows * 8), [1, rows, 1, 8]);
    const { content } = permutationAttention({
      content: make(2),
      key: make(2),
      value: make(2),
      memoryKey: make(3),
      memoryValue: make(3),
      memoryStarts: ids([4]),
      position: tensor(new Float64Array(12 * 8), [12, 1, 8]),
      firstDistance: -6,
    });
    await expect(content!.data()).rejects.toThrow(
      /permutation_attention: memory start 4 of batch row 0, expected 0 ... 3/,
    );
  });

  test('wrong operands are refused by name', () => {
    const make = (shape: readonly number[] = [1, 4, 2, 8]) => tensor(new Float64Array(product(shape)), shape);
    const good = { content: make(), key: make(), value: make(), position: make([8, 2, 8]), firstDistance: -4 };
    const ranks = ids([0, 1, 2, 3], [1, 4]);
    const cases: [PermutationAttentionOptions, RegExp][] = [
      [{ ...good, value: make([1, 5, 2, 8]) }, /value: got shape/],
      [{ ...good, content: make([1, 3, 2, 8]) }, /content: got shape/],
      [{ ...good, query: make([1, 5, 2, 8]) }, /query: got 5 rows without queryPositions/],
      [{ ...good, position: make([3, 2, 8]) }, /position: its rows cover distances/],
      [{ ...good, firstDistance: 0 }, /position: its rows cover distances/],
      [{ ...good, queryRanks: ranks }, /queryRanks, keyRanks: got one of the two/],
      [{ ...good, segments: ranks }, /segments, segmentEmbedding: got one of the two/],
      [{ ...good, memoryKey: make() }, /memoryKey, memoryValue: got one of the two/],
      [{ ...good, mask: ids(new Array<number>(16).fill(0), [1, 4, 4]) }, /mask: got dtype int32/],
      [{ ...good, mask: Tensor.from(new Uint8Array(48), [3, 4, 4], onDevice) }, /mask: got a batch of 3/],
      [{ ...good, queryRanks: make([1, 4]), keyRanks: ranks }, /queryRanks: got dtype float64/],
      [{ ...good, memoryStarts: ids([0, 0]) }, /memoryStarts: got shape/],
      [{ ...good, reversedFrom: 2 }, /reversedFrom: got 2/],
      [{ ...good, dropout: 1 }, /dropout/],
      [{ ...good, dropout: 0.5 }, /generator/],
      [{ ...good, band: { lower: 5 } }, /band/],
    ];
    for (const [options, message] of cases) expect(() => permutationAttention(options)).toThrow(message);
  });
});
