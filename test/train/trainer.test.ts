import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import {
  TransformerXLLMHeadModel,
  Trainer,
  evaluate,
  generate,
  languageModelTask,
  trainInDirectory,
  type TrainOptions,
} from '../../lib';
import { TestRandom } from '../support/random';

const config = {
  vocabSize: 50,
  cutoffs: [],
  divVal: 1,
  tieProjs: [false],
  nLayer: 2,
  dModel: 16,
  dEmbed: 16,
  nHead: 2,
  dHead: 8,
  dInner: 32,
  dropout: 0,
  memLen: 8,
  clampLen: -1,
  sameLength: false,
};

function makeModel(seed = 1, more = {}): TransformerXLLMHeadModel {
  return new TransformerXLLMHeadModel({ ...config, ...more }, { seed, device: 'cpu' });
}

const random = new TestRandom(1);
const tokens = Int32Array.from({ length: 600 }, (_, index) => (index * 7) % 50);
const options: TrainOptions = { batchSize: 4, targetLength: 8, memoryLength: 8, steps: 6, learningRate: 1e-3, seed: 4 };

async function losses(trainer: Trainer, count: number): Promise<number[]> {
  const values: number[] = [];
  for (let step = 0; step < count; step += 1) values.push((await trainer.step()).loss);
  return values;
}

test('the same seed gives the same losses; dropout differs with the seed', async () => {
  const run = async (seed: number) => {
    const model = makeModel(1, { dropout: 0.3 });
    const trainer = new Trainer(languageModelTask(model, { train: tokens }), { ...options, seed });
    const values = await losses(trainer, 5);
    trainer.dispose();
    model.dispose();
    return values;
  };
  expect(await run(4)).toEqual(await run(4));
  expect(await run(4)).not.toEqual(await run(5));
});

test('micro-batches give the losses of the whole batch', async () => {
  const run = async (accumulation: number) => {
    const model = makeModel();
    const trainer = new Trainer(languageModelTask(model, { train: tokens }), { ...options, accumulation });
    const values = await losses(trainer, 5);
    trainer.dispose();
    model.dispose();
    return values;
  };
  const [whole, parts] = [await run(1), await run(4)];
  whole.forEach((value, index) => expect(parts[index]).toBeCloseTo(value, 5));
});

test('a model learns a repeating text', async () => {
  const model = makeModel();
  const trainer = new Trainer(languageModelTask(model, { train: tokens }), {
    ...options,
    steps: 150,
    learningRate: 1e-2,
    warmupSteps: 10,
    memoryLength: 16,
  });
  const first = (await trainer.step()).loss;
  const rest = await losses(trainer, 149);
  expect(rest.at(-1)).toBeLessThan(first / 3);
  const { loss, bitsPerCharacter, perplexity } = await evaluate(model, tokens, {
    targetLength: 5,
    memoryLength: 40,
    batchSize: 2,
  });
  expect(loss).toBeLessThan(first / 2);
  expect(bitsPerCharacter).toBeCloseTo(loss / Math.LN2, 12);
  expect(perplexity).toBeCloseTo(Math.exp(loss), 12);
  // The evaluation's memory length was its own.
  expect([model.memoryLength, model.training]).toEqual([16, true]);
  // And it continues the pattern.
  const drawn: number[] = [];
  for await (const { id } of generate(model, tokens.slice(0, 20), { maxTokens: 10, temperature: 0 })) drawn.push(id);
  const expected = Array.from(tokens.slice(20, 30));
  expect(drawn.filter((id, index) => id === expected[index]).length).toBeGreaterThan(7);
  trainer.dispose();
  model.dispose();
});

test('a loss that is not finite stops the run, names the step, and leaves the weights', async () => {
  const model = makeModel();
  const trainer = new Trainer(languageModelTask(model, { train: tokens }), {
    ...options,
    learningRate: 1e3,
    clipNorm: 0,
    optimizer: 'adam',
  });
  const [name, parameter] = [...model.parameters()].find(([key]) => key.includes('CoreNet.0.weight'))!;
  parameter.overwrite(new Float32Array(parameter.size).fill(NaN));
  const bias = [...model.parameters()].find(([key]) => key === 'crit.out_layers.0.bias')![1];
  const before = await bias.data();
  await expect(trainer.step()).rejects.toThrow(
    new RegExp(`step 1 .*first in ${name.replaceAll('.', '\\.')} \\(value\\)`),
  );
  expect(await bias.data()).toEqual(before);
  trainer.dispose();
  model.dispose();
});

test('training stops early without improvement, and keeps the best', async () => {
  const directory = mkdtempSync(path.join(os.tmpdir(), 'xlformers-early-'));
  const model = makeModel();
  const noise = random.integers(400, 0, 49);
  const result = await trainInDirectory({
    task: languageModelTask(model, { train: tokens, valid: noise }),
    directory,
    config: { ...options, steps: 500, learningRate: 2e-2, evaluation: { interval: 5, patience: 2, batchSize: 2 } },
  });
  expect(result.outcome).toBe('stopped-early');
  expect(result.step).toBeLessThan(500);
  expect(result.step - result.bestStep).toBe(10);
  model.dispose();
  rmSync(directory, { recursive: true, force: true });
});

test('an aborted step leaves the run where it was', async () => {
  const model = makeModel(1, { dropout: 0.2 });
  const trainer = new Trainer(languageModelTask(model, { train: tokens }), { ...options, accumulation: 2 });
  const controller = new AbortController();
  controller.abort();
  await expect(trainer.step(controller.signal)).rejects.toThrow();
  const values = await losses(trainer, 3);
  const again = makeModel(1, { dropout: 0.2 });
  const other = new Trainer(languageModelTask(again, { train: tokens }), { ...options, accumulation: 2 });
  expect(values).toEqual(await losses(other, 3));
  for (const each of [trainer, other, model, again]) each.dispose();
});

describe('generate', () => {
  const model = makeModel();
  afterAll(() => model.dispose());
  const collect = async (generateOptions: Parameters<typeof generate>[2], prompt = [1, 2, 3]) => {
    const ids: number[] = [];
    for await (const { id, logProbability } of generate(model, prompt, generateOptions)) {
      expect(logProbability).toBeLessThanOrEqual(0);
      ids.push(id);
    }
    return ids;
  };

  test('the same seed gives the same tokens, another seed others', async () => {
    const first = await collect({ maxTokens: 20, seed: 5 });
    expect(first).toHaveLength(20);
    expect(await collect({ maxTokens: 20, seed: 5 })).toEqual(first);
    expect(await collect({ maxTokens: 20, seed: 6 })).not.toEqual(first);
  });

  test('cutting the prompt into segments does not change greedy output while the memory holds it', async () => {
    // Weights that make every token matter; no zeros before the text, which a growing memory would push out.
    const strong = makeModel(2, { initStd: 0.5, memLen: 64, compatibility: 'pytorch-original' });
    const prompt = Array.from({ length: 30 }, (_, index) => (index * 11) % 50);
    const drawn = async (given: number[], segmentLength: number) => {
      const tokens: { id: number; logProbability: number }[] = [];
      for await (const token of generate(strong, given, { maxTokens: 8, temperature: 0, segmentLength }))
        tokens.push(token);
      return tokens;
    };
    const whole = await drawn(prompt, 512);
    expect(new Set(whole.map(({ id }) => id)).size).toBeGreaterThan(2);
    for (const segmentLength of [1, 7, 15, 29, 30]) {
      const cut = await drawn(prompt, segmentLength);
      expect(cut.map(({ id }) => id)).toEqual(whole.map(({ id }) => id));
      cut.forEach(({ logProbability }, index) => expect(logProbability).toBeCloseTo(whole[index]!.logProbability, 4));
    }
    // The first segment counts: without it the numbers are others.
    const later = await drawn(prompt.slice(7), 512);
    expect(Math.abs(later[0]!.logProbability - whole[0]!.logProbability)).toBeGreaterThan(1e-3);
    strong.dispose();
  });

  test.each([
    [[1, 2 ** 32 + 1], /prompt\[1\]: got 4294967297, expected an id in/],
    [[1.5], /prompt\[0\]: got 1.5/],
    [[-1], /prompt\[0\]: got -1/],
    [[NaN], /prompt\[0\]: got NaN/],
    [['3'], /prompt\[0\]: got '3'/],
    [Float64Array.of(3, 2 ** 33), /prompt\[1\]: got 8589934592/],
    [[50], /50/],
  ])('a prompt of %p is refused, not cut to 32 bits', async (prompt, message) => {
    const drawing = collect({ maxTokens: 1 }, prompt as number[]);
    await expect(drawing).rejects.toMatchObject({ code: 'ERR_TOKEN_ID', message: expect.stringMatching(message) });
  });

  test.each([
    [{ maxTokens: 1, topk: 3 }, "generate.topk: unknown option; did you mean 'topK'?"],
    [{ maxToken: 1 }, "generate.maxToken: unknown option; did you mean 'maxTokens'?"],
    [{ maxTokens: 1, beams: 2 }, /^generate.beams: unknown option; known are maxTokens, seed/],
    [null, 'generate: got null, expected an object'],
  ])('options %j are refused', async (given, message) => {
    const wanted = typeof message === 'string' ? message : expect.stringMatching(message);
    await expect(collect(given as never)).rejects.toMatchObject({ code: 'ERR_CONFIG', message: wanted });
  });

  test('stops at stopId and at a signal; refuses bad options', async () => {
    const [first] = await collect({ maxTokens: 1, temperature: 0 });
    expect(await collect({ maxTokens: 5, temperature: 0, stopId: first! })).toEqual([]);
    const controller = new AbortController();
    controller.abort(new Error('enough'));
    await expect(collect({ maxTokens: 5, signal: controller.signal })).rejects.toThrow('enough');
    await expect(collect({ maxTokens: -1 })).rejects.toThrow(/maxTokens/);
    await expect(collect({ maxTokens: 1, topP: 2 })).rejects.toThrow(/topP/);
    await expect(collect({ maxTokens: 1 }, [])).rejects.toThrow(/prompt/);
  });
});
