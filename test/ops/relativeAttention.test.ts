import {
  Generator,
  noGrad,
  packedRelativeAttention,
  relativeAttention,
  scope,
  type AttentionBand,
  type Tensor,
} from '../../lib';
import { resolveDevice } from '../../lib/device';
import { philoxLane16 } from '../support/philox';
import { TestRandom } from '../support/random';
import {
  checkGradients,
  emulated,
  epsilon,
  expectClose,
  ids,
  leaf,
  oddSizes,
  onDevice,
  operand,
  product,
  tensor,
} from '../support/operators';

interface Problem {
  batch: number;
  queries: number;
  memory: number;
  heads: number;
  headDim: number;
  band: AttentionBand;
  /** By batch row. */
  memoryStarts: readonly number[] | null;
  dropout: number;
}

/** The formula of Dai et al. 2019, section 3.3, written out in double precision. */
function reference(
  { batch, queries, memory, heads, headDim, band, memoryStarts, dropout }: Problem,
  q: ArrayLike<number>,
  k: ArrayLike<number>,
  v: ArrayLike<number>,
  r: ArrayLike<number>,
  u: ArrayLike<number>,
  w: ArrayLike<number>,
  firstDistance: number,
  seed: number,
): { out: Float64Array; probabilities: Float64Array } {
  const keys = memory + queries;
  const { upper = 0, lower = null, segment = 1 } = band;
  const scale = 1 / Math.sqrt(headDim);
  const out = new Float64Array(batch * queries * heads * headDim);
  const probabilities = new Float64Array(batch * heads * queries * keys);
  const threshold = Math.floor(dropout * 65536 + 0.5);
  for (let b = 0; b < batch; b += 1) {
    for (let h = 0; h < heads; h += 1) {
      for (let i = 0; i < queries; i += 1) {
        const at = (array: ArrayLike<number>, rows: number, row: number, d: number) =>
          array[((b * rows + row) * heads + h) * headDim + d] as number;
        const scores = Array.from({ length: keys }, (_, j) => {
          const tooLate = j > memory + i + upper;
          const tooEarly = lower !== null && j < Math.floor(i / segment) * segment + lower;
          if (tooLate || tooEarly || j < (memoryStarts?.[b] ?? 0)) return -Infinity;
          const distance = memory + i - j - firstDistance;
          let score = 0;
          for (let d = 0; d < headDim; d += 1) {
            const query = at(q, queries, i, d);
            score += (query + (u[h * headDim + d] as number)) * at(k, keys, j, d);
            score += (query + (w[h * headDim + d] as number)) * (r[(distance * heads + h) * headDim + d] as number);
          }
          return score * scale;
        });
        const top = Math.max(...scores);
        const sum = scores.reduce((total, score) => total + Math.exp(score - top), 0);
        scores.forEach((score, j) => {
          const kept = dropout === 0 || philoxLane16(seed, 0, [j >> 3, i, b * heads + h], j & 7) >= threshold;
          const p = kept ? Math.exp(score - top) / sum / (1 - dropout) : 0;
          probabilities[((b * heads + h) * queries + i) * keys + j] = p;
          for (let d = 0; d < headDim; d += 1) {
            const index = ((b * queries + i) * heads + h) * headDim + d;
            out[index] = (out[index] as number) + p * at(v, keys, j, d);
          }
        });
      }
    }
  }
  return { out, probabilities };
}

/** Rows of a [batch, rows, width] array. */
function rowsOf(
  values: Float64Array,
  batch: number,
  rows: number,
  width: number,
  start: number,
  end: number,
): Float64Array {
  const out = new Float64Array(batch * (end - start) * width);
  for (let b = 0; b < batch; b += 1) {
    out.set(values.subarray((b * rows + start) * width, (b * rows + end) * width), b * (end - start) * width);
  }
  return out;
}

function randomProblem(random: TestRandom): Problem {
  const queries = random.pick([...oddSizes, 70, 129]);
  const memory = random.pick([0, 0, ...oddSizes, 100]);
  const kind = random.pick(['causal', 'causal', 'same length', 'window', 'open'] as const);
  const bands: Record<typeof kind, AttentionBand> = {
    causal: {},
    'same length': { lower: random.integer(Math.min(0, memory), memory) },
    window: { lower: -random.integer(0, 3), segment: random.integer(1, Math.max(1, queries)) },
    open: { upper: Infinity },
  };
  const batch = random.integer(1, 2);
  return {
    batch,
    queries,
    memory,
    heads: random.integer(1, 3),
    headDim: random.pick([1, 2, 3, 8, 16, 31, 41, 64, 80]),
    band: bands[kind],
    memoryStarts: random.pick([true, false]) ? [...random.integers(batch, 0, memory)] : null,
    dropout: random.pick([0, 0, 0.25]),
  };
}

function makeOperands(random: TestRandom, { batch, queries, memory, heads, headDim, band }: Problem) {
  const keys = memory + queries;
  const width = heads * headDim;
  const firstDistance = band.upper === Infinity ? -(queries - 1) : 0;
  const positions = keys - firstDistance;
  return {
    firstDistance,
    positions,
    q: random.normals(batch * queries * width),
    k: random.normals(batch * keys * width),
    v: random.normals(batch * keys * width),
    r: random.normals(positions * width),
    u: random.normals(width),
    w: random.normals(width),
  };
}

describe('relativeAttention', () => {
  const random = new TestRandom(1);
  const problems = Array.from({ length: 40 }, () => randomProblem(random));

  test.each(problems.map((problem) => [JSON.stringify(problem), problem] as const))(
    'equals the formula: %s',
    async (_, problem) => {
      const { batch, queries, memory, heads, headDim, band, memoryStarts, dropout } = problem;
      const keys = memory + queries;
      const width = heads * headDim;
      const { q, k, v, r, u, w, firstDistance, positions } = makeOperands(random, problem);
      const expected = reference(problem, q, k, v, r, u, w, firstDistance, 9);
      for (const dtype of ['float64', 'float32'] as const) {
        const rows = (values: Float64Array, start: number, end: number) =>
          tensor(rowsOf(values, batch, keys, width, start, end), [batch, end - start, heads, headDim], dtype);
        const out = scope(() =>
          relativeAttention({
            query: tensor(q, [batch, queries, heads, headDim], dtype),
            key: rows(k, memory, keys),
            value: rows(v, memory, keys),
            memoryKey: memory > 0 ? rows(k, 0, memory) : null,
            memoryValue: memory > 0 ? rows(v, 0, memory) : null,
            position: tensor(r, [positions, heads, headDim], dtype),
            firstDistance,
            contentBias: tensor(u, [heads, headDim], dtype),
            positionBias: tensor(w, [heads, headDim], dtype),
            band,
            memoryStarts: memoryStarts && ids(memoryStarts),
            dropout,
            generator: new Generator(9),
          }),
        );
        // Scores are sums of 2 headDim products of size about 3: their rounding enters the exponent.
        expectClose(await out.data(), expected.out, 40 * (headDim + 8) * epsilon[dtype], `${dtype} output`);
        out.dispose();
      }
    },
  );

  // Around the widths of vectors and tiles, up to the largest that is allowed.
  test.each([1, 41, 80, 128, 160, 255, 256])('head size %d: formula and gradients', async (headDim) => {
    const problem: Problem = {
      ...{ batch: 2, queries: 11, memory: 6, heads: 2, headDim, memoryStarts: null },
      band: {},
      dropout: 0.25,
    };
    const { q, k, v, r, u, w } = makeOperands(random, problem);
    const [keys, width] = [17, 2 * headDim];
    const expected = reference(problem, q, k, v, r, u, w, 0, 9);
    const parts = (values: Float64Array) => [
      rowsOf(values, 2, keys, width, 0, 6),
      rowsOf(values, 2, keys, width, 6, keys),
    ];
    const [[memoryK, currentK], [memoryV, currentV]] = [parts(k), parts(v)] as [Float64Array[], Float64Array[]];
    const operands = [
      { shape: [2, 11, 2, headDim], values: q },
      { shape: [2, 11, 2, headDim], values: currentK! },
      { shape: [2, 11, 2, headDim], values: currentV! },
      { shape: [2, 6, 2, headDim], values: memoryK! },
      { shape: [2, 6, 2, headDim], values: memoryV! },
      { shape: [17, 2, headDim], values: r },
      { shape: [2, headDim], values: u },
      { shape: [2, headDim], values: w },
    ];
    const attend = ([query, key, value, memoryKey, memoryValue, position, contentBias, positionBias]: Tensor[]) =>
      relativeAttention({
        ...{ query: query!, key: key!, value: value!, memoryKey, memoryValue, position: position! },
        ...{ contentBias, positionBias, dropout: 0.25, generator: new Generator(9) },
      });
    for (const dtype of ['float64', 'float32'] as const) {
      const out = attend(operands.map(({ shape, values }) => tensor(values, shape, dtype)));
      expectClose(await out.data(), expected.out, 40 * (headDim + 8) * epsilon[dtype], dtype);
    }
    await checkGradients(random, attend, operands, 8);
  });

  test('packed operands give the same output and probabilities', async () => {
    for (let round = 0; round < 10; round += 1) {
      const problem = randomProblem(random);
      const { batch, queries, memory, heads, headDim, band, memoryStarts, dropout } = problem;
      const keys = memory + queries;
      const { q, k, v, r, u, w, firstDistance, positions } = makeOperands(random, problem);
      const expected = reference(problem, q, k, v, r, u, w, firstDistance, 9);
      const width = heads * headDim;
      const interleave = (parts: Float64Array[], rows: number) => {
        const packed = new Float64Array(parts.length * batch * rows * width);
        for (let row = 0; row < batch * rows; row += 1) {
          parts.forEach((part, index) =>
            packed.set(part.subarray(row * width, (row + 1) * width), (row * parts.length + index) * width),
          );
        }
        return packed;
      };
      const current = (values: Float64Array) => rowsOf(values, batch, keys, width, memory, keys);
      const before = (values: Float64Array) => rowsOf(values, batch, keys, width, 0, memory);
      const { output, probabilities } = scope(() => {
        const result = packedRelativeAttention({
          queryKeyValue: tensor(interleave([q, current(k), current(v)], queries), [batch, queries, 3, heads, headDim]),
          memoryKeyValue:
            memory > 0 ? tensor(interleave([before(k), before(v)], memory), [batch, memory, 2, heads, headDim]) : null,
          position: tensor(r, [positions, heads, headDim]),
          firstDistance,
          contentBias: tensor(u, [heads, headDim]),
          positionBias: tensor(w, [heads, headDim]),
          band,
          memoryStarts: memoryStarts && ids(memoryStarts),
          dropout,
          generator: new Generator(9),
        });
        return { output: result.output, probabilities: result.probabilities() };
      });
      expectClose(await output.data(), expected.out, 1e-11, 'output');
      expect(probabilities.shape).toEqual([batch, heads, queries, keys]);
      expectClose(await probabilities.data(), expected.probabilities, 1e-11, 'probabilities');
      output.dispose();
      probabilities.dispose();
    }
  });

  test('gradients of every operand agree with finite differences', async () => {
    for (let round = 0; round < 12; round += 1) {
      const memory = random.integer(0, 20);
      const problem: Problem = {
        ...randomProblem(random),
        queries: random.integer(1, 20),
        memory,
        band: {},
        memoryStarts: round % 2 === 0 ? [random.integer(0, memory), memory] : null,
      };
      if (problem.memoryStarts) problem.batch = 2;
      if (round % 3 === 1) problem.band = { lower: 1, segment: 2 };
      if (round % 3 === 2) problem.band = { upper: Infinity };
      const { batch, queries, heads, headDim, band, memoryStarts, dropout } = problem;
      const { firstDistance, positions } = makeOperands(random, problem);
      const shapes = [
        [batch, queries, 3, heads, headDim],
        [batch, memory, 2, heads, headDim],
        [positions, heads, headDim],
        [heads, headDim],
        [heads, headDim],
      ].filter((shape) => product(shape) > 0);
      const operands = shapes.map((shape) => operand(random, shape, 0.7));
      await checkGradients(
        random,
        (inputs) => {
          const [queryKeyValue, ...rest] = inputs;
          const memoryKeyValue = memory > 0 ? rest.shift() : null;
          const [position, contentBias, positionBias] = rest;
          return packedRelativeAttention({
            queryKeyValue: queryKeyValue!,
            memoryKeyValue: memoryKeyValue ?? null,
            position: position!,
            contentBias: contentBias!,
            positionBias: positionBias!,
            firstDistance,
            band,
            memoryStarts: memoryStarts && ids(memoryStarts),
            dropout,
            generator: new Generator(3),
          }).output;
        },
        operands,
      );
    }
  });

  const peakMemoryIsLinear = async (): Promise<void> => {
    const device = resolveDevice(onDevice.device);
    const heads = 2;
    const headDim = 16;
    const lengths = [512, 1024, 2048, 4096, 8192];
    /** The most that was held while `body` ran, beyond what was there before. */
    const peakOf = async (body: () => Promise<unknown>): Promise<number> => {
      await device.synchronize();
      const before = device.memory().liveBytes;
      device.resetPeak();
      await body();
      return device.memory().peakBytes - before;
    };
    const peaks = { forward: [] as number[], backward: [] as number[] };
    for (const length of lengths) {
      const shape = [1, length, heads, headDim];
      const values = random.normals(product(shape));
      const [query, key, value] = [0, 1, 2].map(() => leaf(values, shape, 'float32')) as [Tensor, Tensor, Tensor];
      const position = leaf(values, [length, heads, headDim], 'float32');
      const biases = [0, 1].map(() => leaf(values.subarray(0, heads * headDim), [heads, headDim], 'float32'));
      const [contentBias, positionBias] = biases;
      const operands = { query, key, value, position, contentBias, positionBias };
      peaks.forward.push(await peakOf(async () => noGrad(() => relativeAttention(operands)).data()));
      const out = relativeAttention(operands);
      await out.data();
      peaks.backward.push(
        await peakOf(async () => {
          out.backward(value);
          await position.grad!.data();
        }),
      );
      for (const each of [query, key, value, position, ...biases]) {
        each.grad?.dispose();
        each.dispose();
      }
      out.dispose();
    }
    // Rows of the operands' width and a number per row and head are linear; what does not grow is in the first peak too. A score
    // matrix at 8192 would be 2 x 8192 x 8192 floats, 512 MiB; a sixteenth of it is the limit here. Scratch memory of the CUDA backend
    // grows in blocks of 4 MiB and more: there the limit alone holds.
    const row = 4 * heads * headDim;
    for (const peak of Object.values(peaks)) {
      if (device.name === 'cpu')
        peak.slice(1).forEach((bytes, index) => expect(bytes).toBeLessThan(2.1 * peak[index]!));
      expect(peak[4]!).toBeLessThan(32 * 8192 * row);
    }
    expect(peaks.forward[4]!).toBeGreaterThanOrEqual(8192 * row);
    expect(peaks.backward[4]!).toBeGreaterThanOrEqual(4 * 8192 * row);
  };
  // The emulator would take minutes for lengths at which a score matrix stands out.
  if (!emulated) test('peak memory grows linearly with the length, forward and backward', peakMemoryIsLinear);

  test('extreme scores stay finite', async () => {
    const [queries, headDim] = [9, 8];
    const shape = [1, queries, 1, headDim];
    const big = tensor(new Float64Array(product(shape)).fill(1e4), shape, 'float32');
    const value = tensor(random.normals(product(shape)), shape, 'float32');
    const position = tensor(new Float64Array(queries * headDim), [queries, 1, headDim], 'float32');
    const out = relativeAttention({ query: big, key: big, value, position });
    expect((await out.data()).every(Number.isFinite)).toBe(true);
  });

  test('memory before its start has no gradient, and may hold anything', async () => {
    const [batch, queries, memory, heads, headDim] = [2, 3, 8, 2, 4];
    const shape = [batch, queries, 3, heads, headDim];
    const queryKeyValue = leaf(random.normals(product(shape)), shape);
    const before = random.normals(batch * memory * 2 * heads * headDim);
    const position = tensor(random.normals((memory + queries) * heads * headDim), [memory + queries, heads, headDim]);
    const rowSize = 2 * heads * headDim;
    const run = async (values: Float64Array) => {
      const memoryKeyValue = leaf(values, [batch, memory, 2, heads, headDim]);
      const { output } = packedRelativeAttention({
        queryKeyValue,
        memoryKeyValue,
        position,
        memoryStarts: ids([5, 0]),
      });
      output.backward(tensor(random.normals(output.size), output.shape));
      return { output: await output.data(), gradient: await memoryKeyValue.grad!.data() };
    };
    const plain = await run(before);
    const { output } = await run(before.map((value, index) => (index < 5 * rowSize ? 1e6 : value)));
    expect(output).toEqual(plain.output);
    const rowHasGradient = Array.from({ length: batch * memory }, (_, row) =>
      Array.from(plain.gradient.slice(row * rowSize, (row + 1) * rowSize)).some((value) => value !== 0),
    );
    expect(rowHasGradient).toEqual(Array.from({ length: batch * memory }, (_, row) => row >= 5));
  });

  test.each([[[0, 9]], [[-1, 0]]])('memory starts %j are refused when the queue gets there', async (starts) => {
    const make = (rows: number) => tensor(new Float64Array(2 * rows * 8), [2, rows, 2, 4]);
    const position = tensor(new Float64Array(12 * 8), [12, 2, 4]);
    for (const queries of [1, 6]) {
      const out = relativeAttention({
        query: make(queries),
        key: make(queries),
        value: make(queries),
        memoryKey: make(6),
        memoryValue: make(6),
        position,
        memoryStarts: ids(starts),
      });
      await expect(out.data()).rejects.toThrow(
        /relative_attention: memory start (9|-1) of batch row [01], expected 0 ... 6/,
      );
    }
  });

  test('wrong operands are refused by name', () => {
    const shape = [1, 4, 2, 8];
    const make = (size: readonly number[] = shape) => tensor(new Float64Array(product(size)), size);
    const good = { query: make(), key: make(), value: make(), position: make([4, 2, 8]) };
    expect(() => relativeAttention({ ...good, key: make([1, 5, 2, 8]) })).toThrow(/key: got shape/);
    expect(() => relativeAttention({ ...good, position: make([3, 2, 8]) })).toThrow(
      /position: its rows cover distances/,
    );
    expect(() => relativeAttention({ ...good, band: { lower: 5 } })).toThrow(/band/);
    expect(() => relativeAttention({ ...good, dropout: 1 })).toThrow(/dropout/);
    expect(() => relativeAttention({ ...good, dropout: 0.5 })).toThrow(/generator/);
    expect(() => relativeAttention({ ...good, memoryKey: make() })).toThrow(/memoryKey, memoryValue/);
    expect(() => relativeAttention({ ...good, memoryStarts: ids([0, 0]) })).toThrow(/memoryStarts: got shape/);
    expect(() => relativeAttention({ ...good, memoryStarts: make([1]) })).toThrow(/memoryStarts: got dtype/);
    expect(() =>
      relativeAttention({
        query: make([1, 4, 1, 257]),
        key: make([1, 4, 1, 257]),
        value: make([1, 4, 1, 257]),
        position: make([4, 1, 257]),
      }),
    ).toThrow(/head size: got 257/);
  });
});
