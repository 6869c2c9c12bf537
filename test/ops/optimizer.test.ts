import { adam, cast, fillRandom, Generator, globalNorm, record, type Recording, sample, Tensor } from '../../lib';
import { drawingState, sampleAgain } from '../../lib/ops/sample';
import { philoxBlock } from '../support/philox';
import { TestRandom } from '../support/random';
import { device, onDevice, epsilon, expectClose, tensor } from '../support/operators';

const random = new TestRandom(6);

describe('globalNorm', () => {
  test('is the norm over all tensors, with the clip factor of torch', async () => {
    const parts = [1, 7, 1000, 4097].map((count) => random.normals(count));
    const norm = Math.sqrt(parts.reduce((sum, part) => sum + part.reduce((s, v) => s + v * v, 0), 0));
    for (const dtype of ['float64', 'float32'] as const) {
      const tensors = parts.map((part) => tensor(part, [part.length], dtype));
      expectClose(await globalNorm(tensors, 0.25).data(), [norm, 0.25 / (norm + 1e-6), 1], 4 * epsilon[dtype]);
      expectClose(await globalNorm(tensors, 0).data(), [norm, 1, 1], 4 * epsilon[dtype]);
      expectClose(await globalNorm(tensors, 1e9).data(), [norm, 1, 1], 4 * epsilon[dtype]);
    }
    const [, , finite] = await globalNorm([tensor([1, NaN], [2])], 1).data();
    expect(finite).toBe(0);
  });
});

describe('adam', () => {
  test.each([false, true])('follows torch.optim step by step (decoupled %s)', async (decoupled) => {
    const count = 1037;
    const [beta1, beta2, eps, rate, decay] = [0.9, 0.99, 1e-8, 0.01, 0.1];
    const p = random.normals(count);
    const [m, v] = [new Float64Array(count), new Float64Array(count)];
    const parameter = tensor(p, [count]);
    const [firstMoment, secondMoment] = [tensor(m, [count]), tensor(v, [count])];
    for (let step = 1; step <= 5; step += 1) {
      const g = random.normals(count);
      for (let i = 0; i < count; i += 1) {
        const gradient = decoupled ? g[i]! : g[i]! + decay * p[i]!;
        if (decoupled) p[i] = p[i]! * (1 - rate * decay);
        m[i] = beta1 * m[i]! + (1 - beta1) * gradient;
        v[i] = beta2 * v[i]! + (1 - beta2) * gradient * gradient;
        const denominator = Math.sqrt(v[i]!) / Math.sqrt(1 - beta2 ** step) + eps;
        p[i] = p[i]! - (rate / (1 - beta1 ** step)) * (m[i]! / denominator);
      }
      adam({
        tensors: [{ parameter, gradient: tensor(g, [count]), firstMoment, secondMoment, weightDecay: decay }],
        learningRate: rate,
        beta1,
        beta2,
        epsilon: eps,
        step,
        decoupled,
      });
    }
    expectClose(await parameter.data(), p, 1e-13);
  });

  test.each(['bfloat16', 'float16'] as const)(
    'copies in %s are what a cast of the new weights gives',
    async (dtype) => {
      const counts = [1, 5, 64, 9001];
      const start = counts.map((count) => random.normals(count));
      const slopes = counts.map((count) => random.normals(count));
      for (const type of ['float32', 'float64'] as const) {
        const evaluate = async (copying: boolean, clip: Tensor | null) => {
          const tensors = counts.map((count, index) => ({
            parameter: tensor(start[index]!, [count], type),
            gradient: tensor(slopes[index]!, [count], type),
            firstMoment: Tensor.zeros([count], { ...onDevice, dtype: type }),
            secondMoment: Tensor.zeros([count], { ...onDevice, dtype: type }),
            weightDecay: 0.1,
            // One weight without, as if it had none in use.
            copy: copying && index !== 2 ? Tensor.full([count], 7, { ...onDevice, dtype }) : null,
          }));
          adam({ tensors, learningRate: 0.1, beta1: 0.9, beta2: 0.99, epsilon: 1e-8, step: 1, decoupled: true, clip });
          return tensors;
        };
        const [plain, copying] = [await evaluate(false, null), await evaluate(true, null)];
        for (const [index, { parameter, copy }] of copying.entries()) {
          expect(await parameter.data()).toEqual(await plain[index]!.parameter.data());
          if (copy === null) continue;
          expect(await copy.data()).toEqual(await cast(parameter, dtype).data());
          expect(copy.version).toBe(parameter.version);
        }
        const overflow = globalNorm([tensor([Infinity], [1], type)], 1);
        const [first] = await evaluate(true, overflow);
        expect([...(await first!.copy!.data())]).toEqual([7]);
      }
    },
  );

  test('copies of another type, shape or of two types are refused by name', () => {
    const weight = (copy: Tensor) => {
      const [parameter, gradient, firstMoment, secondMoment] = [1, 2, 3, 4].map(() => tensor([1, 2], [2]));
      const operands = { parameter: parameter!, gradient: gradient!, firstMoment: firstMoment! };
      return { ...operands, secondMoment: secondMoment!, weightDecay: 0, copy };
    };
    const rates = { learningRate: 1, beta1: 0.9, beta2: 0.9, epsilon: 1e-8, step: 1, decoupled: false };
    const make = (dtype: 'bfloat16' | 'float16' | 'float32', shape = [2]) =>
      Tensor.zeros(shape, { ...onDevice, dtype });
    const step = (...copies: Tensor[]) => adam({ ...rates, tensors: copies.map(weight) });
    expect(() => step(make('float32'))).toThrow(/tensors\[0\].copy: got dtype float32, expected bfloat16 or float16/);
    expect(() => step(make('float16', [3]))).toThrow(/tensors\[0\].copy: got shape \[3\], expected \[2\]/);
    expect(() => step(make('float16'), make('bfloat16'))).toThrow(
      /tensors\[1\].copy: got dtype bfloat16, expected float16/,
    );
  });

  test('a norm that is not finite leaves everything as it was', async () => {
    const parameter = tensor([1, 2], [2]);
    const gradient = tensor([1, Infinity], [2]);
    const [firstMoment, secondMoment] = [tensor([0, 0], [2]), tensor([0, 0], [2])];
    const clip = globalNorm([gradient], 1);
    adam({
      tensors: [{ parameter, gradient, firstMoment, secondMoment, weightDecay: 0 }],
      learningRate: 1,
      beta1: 0.9,
      beta2: 0.9,
      epsilon: 1e-8,
      step: 1,
      decoupled: false,
      clip,
    });
    expect([...(await parameter.data())]).toEqual([1, 2]);
    expect([...(await firstMoment.data())]).toEqual([0, 0]);
  });
});

describe('fillRandom', () => {
  test('draws what the counters say', async () => {
    for (const count of [1, 2, 3, 4, 5, 1001]) {
      const uniform = Tensor.zeros([count], { ...onDevice, dtype: 'float64' });
      fillRandom(uniform, { kind: 'uniform', a: -2, b: 3 }, new Generator(42));
      const word = (i: number) => philoxBlock(42, 0, [i >>> 2, 0, 1])[i & 3] as number;
      const expected = Array.from({ length: count }, (_, i) => -2 + 5 * ((word(i) >>> 8) * 2 ** -24));
      expectClose(await uniform.data(), expected, 1e-15);
      const normal = Tensor.zeros([count], { ...onDevice, dtype: 'float64' });
      fillRandom(normal, { kind: 'normal', a: 1, b: 2 }, new Generator(42));
      const gauss = Array.from({ length: count }, (_, i) => {
        const even = i & ~1;
        const radius = Math.sqrt(-2 * Math.log((word(even) + 1) * 2 ** -32));
        const angle = 2 * Math.PI * word(even + 1) * 2 ** -32;
        return 1 + 2 * radius * (i & 1 ? Math.sin(angle) : Math.cos(angle));
      });
      expectClose(await normal.data(), gauss, 1e-13);
    }
  });
});

describe('sample', () => {
  const scores = [0.1, 2, -1, 2, 0.5, -3];

  test('temperature 0 takes the best, the lowest id of equals', async () => {
    const { ids, logProbability } = sample(tensor(scores, [1, 6]), { temperature: 0 });
    expect([...(await ids.data())]).toEqual([1]);
    const sum = scores.reduce((total, value) => total + Math.exp(value), 0);
    expectClose(await logProbability.data(), [2 - Math.log(sum)], 1e-14);
  });

  test('frequencies follow the truncated distribution', async () => {
    const draw = async (options: { temperature?: number; topK?: number; topP?: number }) => {
      const rows = 4000;
      const table = Float64Array.from({ length: rows * 6 }, (_, i) => scores[i % 6]!);
      const { ids } = sample(tensor(table, [rows, 6]), { ...options, generator: new Generator(3) });
      const counts = new Array<number>(6).fill(0);
      for (const id of await ids.data()) counts[id] = counts[id]! + 1;
      return counts.map((count) => count / rows);
    };
    const weights = (keep: readonly number[], temperature = 1) => {
      const values = scores.map((score, id) => (keep.includes(id) ? Math.exp(score / temperature) : 0));
      const sum = values.reduce((a, b) => a + b, 0);
      return values.map((value) => value / sum);
    };
    const all = [0, 1, 2, 3, 4, 5];
    // 4 standard deviations of a frequency over 4000 draws.
    const tolerance = 4 * Math.sqrt(0.25 / 4000);
    expectClose(await draw({}), weights(all), tolerance);
    expectClose(await draw({ temperature: 0.5 }), weights(all, 0.5), tolerance);
    expectClose(await draw({ topK: 3 }), weights([1, 3, 4]), tolerance);
    // Probabilities 0.41, 0.41, 0.09, 0.06, ...: the first two do not reach 0.9, three do.
    expectClose(await draw({ topP: 0.9 }), weights([1, 3, 4]), tolerance);
    expectClose(await draw({ topP: 1e-6 }), weights([1]), tolerance);
  });

  test.each([{}, { temperature: 0.7, topK: 20, topP: 0.9 }, { temperature: 0 }])(
    'rows with streams of their own draw what each draws alone, also in a recording, %j',
    async (options) => {
      const columns = 40;
      const table = random.normals(3 * columns);
      const begin = [
        { seed: 3, offset: 2 ** 32 - 2 }, // counts on into the upper word
        { seed: 2 ** 40 + 9, offset: 0 },
        { seed: 3, offset: 2 ** 35 + 5 },
      ];
      const all = tensor(table, [3, columns]);
      const generators = begin.map((state) => Generator.from(state));
      const state = drawingState(all, options, generators);
      const draw = () => sampleAgain(all, options, state);
      let recording: Recording<void> | null = null;
      for (let round = 0; round < 6; round += 1) {
        if (round === 0) draw();
        else if (recording) recording.replay();
        else recording = record(draw, { device });
        for (const [row, generator] of generators.entries()) {
          const scoresOfRow = tensor(table.slice(row * columns, (row + 1) * columns), [1, columns]);
          const alone = sample(scoresOfRow, { ...options, generator });
          expect((await state.ids.data())[row]).toBe((await alone.ids.data())[0]);
          expect((await state.logProbability.data())[row]).toBe((await alone.logProbability.data())[0]);
        }
      }
      recording?.dispose();
    },
  );

  test('state for other rows is refused by name', () => {
    const state = drawingState(tensor(new Float64Array(12), [2, 6]), {}, [new Generator(1), new Generator(2)]);
    const other = tensor(new Float64Array(18), [3, 6]);
    expect(() => sampleAgain(other, {}, state)).toThrow(/ids: got shape \[2\]/);
    expect(() => sampleAgain(tensor(new Float64Array(12), [2, 6], 'float32'), {}, state)).toThrow(
      /logProbability: got dtype/,
    );
    expect(() => drawingState(other, {}, [new Generator(1)])).toThrow(/generators: got 1, expected 3/);
  });

  test('bad options are refused by name', () => {
    const t = tensor(scores, [1, 6]);
    const generator = new Generator(1);
    for (const temperature of [-1, NaN, Infinity])
      expect(() => sample(t, { temperature, generator })).toThrow(/temperature/);
    for (const topP of [0, 1.1, NaN]) expect(() => sample(t, { topP, generator })).toThrow(/topP/);
    for (const topK of [-1, 0.5]) expect(() => sample(t, { topK, generator })).toThrow(/topK/);
    expect(() => sample(t)).toThrow(/generator/);
  });
});
