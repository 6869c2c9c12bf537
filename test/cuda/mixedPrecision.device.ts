/** Models and training in 16 bits, on a device that computes in them. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import {
  add,
  AutoModel,
  cast,
  evaluate,
  generate,
  languageModelTask,
  linear,
  noGrad,
  openSafetensors,
  type Precision,
  scope,
  type StepReport,
  Tensor,
  Trainer,
  trainInDirectory,
  TransformerXLLMHeadModel,
  type TrainOptions,
  XLNetForSequenceClassification,
  XLNetLMHeadModel,
} from '../../lib';
import { fromShortFloat, toShortFloat } from '../../lib/dtype';
import { native } from '../../lib/native';
import { updatableCopy } from '../../lib/nn/workingCopy';
import type { Parameter } from '../../lib/tensor';
import { codeOf } from '../support/errors';
import { epsilon, expectClose, onDevice } from '../support/operators';
import { TestRandom } from '../support/random';
import { shortTypes } from '../support/shortFloats';

const scratch = mkdtempSync(path.join(os.tmpdir(), 'xlformers-precision-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

/** Two layers and three clusters, tails narrower than the head. */
const shape = {
  ...{ vocabSize: 40, cutoffs: [10, 25], divVal: 2, tieProjs: [false, true, true], nLayer: 2, dModel: 16, dEmbed: 16 },
  ...{ nHead: 2, dHead: 8, dInner: 24, dropout: 0, memLen: 6, clampLen: -1, sameLength: false, initStd: 0.2 },
};

function makeModel(options = {}): TransformerXLLMHeadModel {
  return new TransformerXLLMHeadModel({ ...shape, ...options }, { seed: 3, ...onDevice });
}

const ids = (seed: number) => [0, 1].map((row) => new TestRandom(seed + row).integers(7, 0, 39));

/** Scores of a second segment, whose memory the first one left, and the loss. */
async function scoresAndLoss(model: TransformerXLLMHeadModel): Promise<{ scores: Float32Array; loss: number }> {
  const { scores, loss } = noGrad(() =>
    scope(() => {
      const { mems } = model.forward({ inputIds: ids(1) });
      const second = { inputIds: ids(11), mems: mems! };
      return {
        scores: model.forward(second).predictionScores!,
        loss: model.forward({ ...second, targets: ids(21) }).loss!,
      };
    }),
  );
  expect(loss.dtype).toBe('float32');
  const result = { scores: (await scores.data()) as Float32Array, loss: await loss.item() };
  for (const tensor of [scores, loss]) tensor.dispose();
  return result;
}

/**
 * A score depends on some 32 tensors that were rounded: weights, and what each layer stores. Layer norms keep errors relative, and of
 * random sign: sqrt(32) < 8 roundings of the largest score.
 */
const roundings = 8;

async function storedTypes(directory: string): Promise<string[]> {
  const file = await openSafetensors(path.join(directory, 'model.safetensors'));
  await file.close();
  return [...new Set([...file.tensors.values()].map((info) => info.dtype))];
}

/** Losses of the first steps on a text that repeats itself. */
async function trainedLosses(precision: Precision): Promise<number[]> {
  const tokens = Int32Array.from({ length: 200 }, (_, index) => (index * 7) % 40);
  const model = makeModel();
  const trainer = new Trainer(languageModelTask(model, { train: tokens }), {
    ...{ batchSize: 2, targetLength: 8, memoryLength: 6, steps: 10, learningRate: 2e-2, seed: 4 },
    ...{ precision, schedule: 'constant' as const },
  });
  const losses: number[] = [];
  while (!trainer.finished) {
    const { loss, lossScale, skipped } = await trainer.step();
    expect([lossScale, skipped]).toEqual([precision === 'float16' ? 65_536 : null, false]);
    losses.push(loss);
  }
  for (const parameter of model.parameters().values()) expect(parameter.dtype).toBe('float32');
  trainer.dispose();
  expect(model.precision).toBe('float32');
  model.dispose();
  return losses;
}

let single: Promise<number[]> | null = null;

describe.each(shortTypes)('%s', (dtype) => {
  const roundoff = epsilon[dtype] / 2;
  const folder = path.join(scratch, dtype);

  test('a model saved and loaded in it agrees with float32, and with mixed precision bit for bit', async () => {
    const model = makeModel();
    const exact = await scoresAndLoss(model);
    await model.save(folder, { dtype });
    const config = JSON.parse(readFileSync(path.join(folder, 'config.json'), 'utf8')) as Record<string, unknown>;
    expect(config.dtype).toBe(dtype);
    expect(await storedTypes(folder)).toEqual([dtype === 'bfloat16' ? 'BF16' : 'F16']);

    const short = (await AutoModel.fromPretrained(folder, { ...onDevice, dtype })) as TransformerXLLMHeadModel;
    expect(short.precision).toBe(dtype);
    for (const [name, parameter] of model.parameters()) {
      const stored = short.parameters().get(name)!;
      expect(stored.dtype).toBe(dtype);
      const rounded = fromShortFloat(toShortFloat(await parameter.data(), dtype), dtype);
      expect([name, await stored.data()]).toEqual([name, rounded]);
    }
    const result = await scoresAndLoss(short);
    expectClose(result.scores, exact.scores, roundings * roundoff, 'scores');
    expect(Math.abs(result.loss - exact.loss)).toBeLessThan(roundings * roundoff * exact.loss);

    model.setPrecision(dtype);
    expect(await scoresAndLoss(model)).toEqual(result);
    model.setPrecision('float32');
    expect(await scoresAndLoss(model)).toEqual(exact);

    // The file's type is that of the weights unless another is asked for.
    await short.save(path.join(folder, 'again'));
    await short.save(path.join(folder, 'wide'), { dtype: 'float32' });
    expect(await storedTypes(path.join(folder, 'wide'))).toEqual(['F32']);
    const bytesOf = (...names: string[]) => readFileSync(path.join(folder, ...names, 'model.safetensors'));
    expect(bytesOf('again').equals(bytesOf())).toBe(true);
    for (const each of [model, short]) each.dispose();
  });

  test('generates', async () => {
    const model = await TransformerXLLMHeadModel.fromPretrained(folder, { ...onDevice, dtype });
    const drawn: number[] = [];
    for await (const { id, logProbability } of generate(model, [1, 2, 3], { maxTokens: 4, seed: 2 })) {
      expect(logProbability).toBeLessThan(0);
      drawn.push(id);
    }
    expect(drawn).toHaveLength(4);
    model.dispose();
  });

  test('states that the caller gives as float32 are cast', async () => {
    const model = await TransformerXLLMHeadModel.fromPretrained(folder, { ...onDevice, dtype });
    const result = scope(() => {
      const { mems } = model.forward({ inputIds: ids(1) });
      const { vocabSize } = model.config;
      expect(mems!.hidden[0]!.dtype).toBe(dtype);
      const states = mems!.hidden.map((layer) => Tensor.zeros([layer.shape[1]!, 2, 16], onDevice));
      const headMask = Tensor.full([2], 1, onDevice);
      const inputsEmbeds = Tensor.full([2, 7, 16], 0.5, onDevice);
      const { predictionScores } = model.forward({ inputsEmbeds, mems: states, headMask });
      expect(predictionScores!.shape).toEqual([2, 7, vocabSize]);
      return predictionScores!;
    });
    expect(result.dtype).toBe(dtype);
    expect((await result.data()).every(Number.isFinite)).toBe(true);
    model.dispose();
  });

  test("gradients arrive as float32 at float32 weights, and are close to float32's", async () => {
    const model = makeModel();
    const gradients = async () => {
      scope(() => {
        const { mems } = model.forward({ inputIds: ids(1) });
        // Two passes sum up, over tied weights and over uses.
        for (const seed of [11, 31])
          model.forward({ inputIds: ids(seed), targets: ids(seed + 10), mems: mems! }).loss!.backward();
      });
      const found = new Map<string, Float32Array>();
      for (const [name, parameter] of model.parameters()) {
        expect(parameter.grad!.dtype).toBe('float32');
        found.set(name, (await parameter.grad!.data()) as Float32Array);
        parameter.zeroGrad();
      }
      return found;
    };
    const exact = await gradients();
    model.setPrecision(dtype);
    const short = await gradients();
    let largest = 0;
    for (const values of exact.values()) largest = Math.max(largest, ...values.map(Math.abs));
    for (const [name, values] of short) {
      const scaled = (each: Float32Array) => each.map((value) => value / largest);
      // Twice as many tensors were rounded as for the scores: what the gradient stores comes on top.
      expectClose(scaled(values), scaled(exact.get(name)!), 2 * roundings * roundoff, name);
    }
    model.dispose();
  });

  test('the gradient of a float32 weight is what its product adds up to, not rounded', async () => {
    // Multiples of 2^-6 below 1: products and sums are exact in float32, and take more digits than 16 bits have.
    const random = new TestRandom(9);
    const numbers = (count: number) => Float32Array.from(random.integers(count, -63, 63), (value) => value / 64);
    const rows = 19;
    const [x, dy, value] = [numbers(rows * 5), numbers(rows * 6), numbers(30)];
    for (const layout of ['outIn', 'inOut'] as const) {
      const shape = layout === 'outIn' ? [6, 5] : [5, 6];
      const weight = Tensor.from(value, shape, { ...onDevice, requiresGrad: true });
      // The first use stores, the second adds; rows of the weight alone leave the others as they are.
      const uses = layout === 'outIn' ? [undefined, { first: 2, count: 3 }] : [undefined, undefined];
      const expected = new Float32Array(30);
      for (const range of uses) {
        const { first, count } = range ?? { first: 0, count: 6 };
        const gradient = dy.slice(0, rows * count);
        scope(() => {
          const input = cast(Tensor.from(x, [rows, 5], onDevice), dtype);
          const y = linear(input, cast(weight, dtype), range ? { rows: range } : { layout });
          y.backward(cast(Tensor.from(gradient, [rows, count], onDevice), dtype));
        });
        for (let row = 0; row < rows; row += 1) {
          for (let out = 0; out < count; out += 1) {
            for (let inner = 0; inner < 5; inner += 1) {
              const at = layout === 'outIn' ? (first + out) * 5 + inner : inner * 6 + out;
              expected[at] = expected[at]! + gradient[row * count + out]! * x[row * 5 + inner]!;
            }
          }
        }
      }
      expect(await weight.grad!.data()).toEqual(expected);
      expect(fromShortFloat(toShortFloat(expected, dtype), dtype)).not.toEqual(expected);
      weight.grad!.dispose();
      weight.dispose();
    }
  });

  test('weights of float64 get the gradient that 16 bits hold, disposed ones none', async () => {
    const weight = Tensor.from(Float64Array.of(1, 2, 3, 4), [2, 2], { ...onDevice, requiresGrad: true });
    const gone = Tensor.from(Float32Array.of(1, 2, 3, 4), [2, 2], { ...onDevice, requiresGrad: true });
    const ones = cast(Tensor.full([1, 2], 1, onDevice), dtype);
    const y = add(linear(ones, cast(weight, dtype)), linear(ones, cast(gone, dtype)));
    gone.dispose();
    y.backward(ones);
    expect(weight.grad!.dtype).toBe('float64');
    expect([...(await weight.grad!.data())]).toEqual([1, 1, 1, 1]);
  });

  test('training follows float32: the losses fall together', async () => {
    const [exact, short] = [await (single ??= trainedLosses('float32')), await trainedLosses(dtype)];
    expect(short[9]!).toBeLessThan(0.9 * short[0]!);
    short.forEach((loss, step) => expect(Math.abs(loss - exact[step]!)).toBeLessThan(roundings * roundoff * exact[0]!));
  });

  test('the copies of weights are those that casts would give, and are cast once in a training', async () => {
    const tokens = Int32Array.from({ length: 200 }, (_, index) => (index * 7) % 40);
    const model = makeModel({ dropout: 0.1 });
    const trainer = new Trainer(languageModelTask(model, { train: tokens }), {
      ...{ batchSize: 2, targetLength: 8, memoryLength: 6, steps: 3, learningRate: 2e-2, seed: 4, precision: dtype },
      accumulation: 2,
    });
    const weights = [...model.parameters().values()];
    const buffers = weights.map(({ buffer }) => buffer);
    const cast = jest.spyOn(native, 'cast');
    const castsOfWeights = () => cast.mock.calls.filter(([{ x }]) => buffers.includes(x)).length;
    await trainer.step();
    const used = weights.filter(({ workingCopy }) => workingCopy !== null);
    expect(used.length).toBeGreaterThan(20);
    expect(castsOfWeights()).toBe(used.length);
    await trainer.step();
    await trainer.step();
    expect(castsOfWeights()).toBe(used.length);
    cast.mockRestore();
    for (const parameter of used) {
      const copy = parameter.workingCopy!;
      expect([parameter.name, copy.version]).toEqual([parameter.name, parameter.version]);
      const rounded = fromShortFloat(toShortFloat(await parameter.data(), dtype), dtype);
      expect([parameter.name, await copy.data()]).toEqual([parameter.name, rounded]);
    }
    // Values given from outside, and a copy that a tape holds, are not the optimizer's to keep.
    const [first, second] = used as [Parameter, Parameter];
    first.overwrite(new Float32Array(first.size));
    const held = second.workingCopy!.alias();
    expect([updatableCopy(first), updatableCopy(second)]).toEqual([null, null]);
    held.dispose();
    expect(updatableCopy(second)).toBe(second.workingCopy);
    trainer.dispose();
    model.dispose();
  });

  test('evaluations in mixed precision', async () => {
    const model = makeModel();
    const protocol = { targetLength: 7, memoryLength: 6 };
    const tokens = new TestRandom(5).integers(40, 0, 39);
    const exact = await evaluate(model, tokens, protocol);
    model.setPrecision(dtype);
    const short = await evaluate(model, tokens, protocol);
    expect(short.loss).not.toBe(exact.loss);
    expect(Math.abs(short.loss - exact.loss)).toBeLessThan(roundings * roundoff * exact.loss);
    model.dispose();
  });

  test("XLNet's two streams, and a classifier's regression against labels in float32", async () => {
    const config = { vocabSize: 40, nLayer: 2, dModel: 16, nHead: 2, dInner: 24, initializerRange: 0.2, dropout: 0 };
    const model = new XLNetLMHeadModel(config, { seed: 3, ...onDevice });
    const lossOf = async () => {
      const loss = scope(() => {
        const inputs = {
          inputIds: ids(1),
          targetPositions: [
            [2, 5],
            [0, 6],
          ],
          labels: [
            [4, 9],
            [1, 39],
          ],
        };
        const ranks = [0, 1].map(() => Int32Array.of(0, 3, 5, 1, 2, 6, 4));
        return model.forward({
          ...inputs,
          queryRanks: ranks,
          keyRanks: ranks,
          tokenTypeIds: ids(1).map((row) => row.map((id) => id % 2)),
        }).loss!;
      });
      expect(loss.dtype).toBe('float32');
      loss.backward();
      return loss.item();
    };
    const exact = await lossOf();
    model.setPrecision(dtype);
    expect(Math.abs((await lossOf()) - exact)).toBeLessThan(roundings * roundoff * exact);
    model.dispose();

    const classifier = new XLNetForSequenceClassification(
      { ...config, numLabels: 1, summaryType: 'mean' },
      { seed: 3, ...onDevice },
    );
    const squared = async () => {
      const { logits, loss } = noGrad(() =>
        scope(() => classifier.forward({ inputIds: ids(1), labels: [1000.25, -3] })),
      );
      expect(loss!.dtype).toBe('float32');
      const [first, second] = await logits.data();
      // In 16 bits the label would be 1000, or an error of 250 in the loss.
      const expected = ((first! - 1000.25) ** 2 + (second! + 3) ** 2) / 2;
      expect(Math.abs((await loss!.item()) - expected)).toBeLessThan(64 * epsilon.float32 * expected);
    };
    await squared();
    classifier.setPrecision(dtype);
    await squared();
    classifier.dispose();
  });

  test('16-bit weights are not trained', async () => {
    const model = await TransformerXLLMHeadModel.fromPretrained(folder, { ...onDevice, dtype });
    const task = languageModelTask(model, { train: new TestRandom(5).integers(100, 0, 39) });
    expect(await codeOf(() => new Trainer(task, { precision: dtype, batchSize: 2, targetLength: 8 }))).toBe(
      'ERR_CONFIG',
    );
    expect(await codeOf(() => model.setPrecision('float32'))).toBe('ERR_CONFIG');
    model.dispose();
  });
});

describe("float16's loss scale", () => {
  const tokens = new TestRandom(6).integers(300, 0, 39);
  const options: TrainOptions = {
    ...{ batchSize: 2, targetLength: 6, memoryLength: 6, steps: 8, learningRate: 1e-2, seed: 4, precision: 'float16' },
    // A logit's gradient is up to 1/12: float16 ends at 65504, a scale of some 2^20.
    lossScaling: { initialScale: 2 ** 26, backoffFactor: 2 ** -3, growthInterval: 3 },
  };
  const weightsOf = async (model: TransformerXLLMHeadModel) =>
    Promise.all([...model.parameters().values()].map((parameter) => parameter.data()));

  test('falls, with steps skipped, until gradients are finite, and grows again', async () => {
    const model = makeModel();
    const before = await weightsOf(model);
    const trainer = new Trainer(languageModelTask(model, { train: tokens }), { ...options, clipNorm: 0.1 });
    const seen: [scale: number, skipped: boolean][] = [];
    for (let step = 0; step < 8; step += 1) {
      const { lossScale, skipped, gradientNorm } = await trainer.step();
      seen.push([Math.log2(lossScale!), skipped]);
      expect(Number.isFinite(gradientNorm)).toBe(!skipped);
      // Unscaled: a norm of this model is nowhere near the scale.
      if (!skipped) expect(gradientNorm).toBeLessThan(100);
      if (seen.every(([, each]) => each)) expect(await weightsOf(model)).toEqual(before);
    }
    const skips = seen.findIndex(([, skipped]) => !skipped);
    expect(skips).toBeGreaterThan(0);
    seen.slice(0, skips).forEach(([scale], index) => expect(scale).toBe(26 - 3 * index));
    const good = seen.slice(skips).map(([scale]) => scale);
    expect(good[0]).toBe(26 - 3 * skips);
    // Three good steps, then twice the scale.
    expect(good.slice(0, 4)).toEqual([good[0], good[0], good[0], good[0]! + 1]);
    expect(trainer.lossScalerState!.skipped).toBe(seen.filter(([, skipped]) => skipped).length);
    trainer.dispose();
    model.dispose();
  });

  test('a resumed run is the undisturbed one, bit for bit, skipped steps and scale included', async () => {
    const run = async (directory: string, interruptedAt: number | null): Promise<string[]> => {
      const stop = new AbortController();
      const config = { ...options, steps: 6, checkpoint: { interval: 1, keep: 1 } };
      for (const resume of interruptedAt === null ? [false] : [false, true]) {
        const model = makeModel({ dropout: 0.1 });
        await trainInDirectory({
          ...{ task: languageModelTask(model, { train: tokens }), directory, config, resume },
          ...(resume ? {} : { signal: stop.signal }),
          onStep: ({ step }) => void (step === interruptedAt && stop.abort()),
        });
        model.dispose();
      }
      return readFileSync(path.join(directory, 'log.jsonl'), 'utf8').trim().split('\n');
    };
    const [whole, parts] = [path.join(scratch, 'whole'), path.join(scratch, 'parts')];
    const stable = (lines: string[]) =>
      lines.map((line) => ({ ...(JSON.parse(line) as Record<string, unknown>), tokensPerSecond: undefined }));
    const expected = stable(await run(whole, null));
    expect(expected).toHaveLength(6);
    expect(expected[0]).toMatchObject({ lossScale: 2 ** 26, skipped: true, gradientNorm: null });
    expect(expected[5]).toMatchObject({ skipped: false });
    for (const at of [1, 4]) {
      expect(stable(await run(`${parts}-${at}`, at))).toEqual(expected);
      const bytes = (directory: string) => readFileSync(path.join(directory, 'model', 'model.safetensors'));
      expect(bytes(`${parts}-${at}`).equals(bytes(whole))).toBe(true);
    }
  });

  test('ends with an error where no scale helps, the weights untouched', async () => {
    const model = makeModel();
    const [table] = model.parameters().values();
    // A finite weight that float16 does not hold.
    table!.overwrite(new Float32Array(table!.size).fill(1e6));
    const trainer = new Trainer(languageModelTask(model, { train: tokens }), {
      ...options,
      lossScaling: { initialScale: 1 },
    });
    const before = await weightsOf(model);
    const reports: StepReport[] = [];
    await expect(
      (async () => {
        for (;;) reports.push(await trainer.step());
      })(),
    ).rejects.toThrow(/step 5 .*a loss scale of 0\.0625 does not help: try precision 'bfloat16'/);
    expect(reports.map(({ lossScale, skipped }) => [lossScale, skipped])).toEqual(
      [1, 0.5, 0.25, 0.125].map((scale) => [scale, true]),
    );
    expect(await weightsOf(model)).toEqual(before);
    trainer.dispose();
    model.dispose();
  });
});
