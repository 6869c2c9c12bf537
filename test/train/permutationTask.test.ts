import {
  type PermutationData,
  type TrainOptions,
  Trainer,
  XLNetLMHeadModel,
  type XLNetOptions,
  XLNetTokenizer,
  permutationTask,
} from '../../lib';
import { fixturePath } from '../support/fixtures';
import { lossOf, lossesOf, made, trained } from '../support/tasks';

const lines = ['The captain saw the whale.', 'The whale saw the ship.', '', 'The ship went into the sea.'];
const text = `${lines.join('\n')}\n`.repeat(20);
// So narrow a model wants larger first weights than the default of 0.02.
const config: XLNetOptions = {
  initializerRange: 0.1,
  vocabSize: 2000,
  nLayer: 2,
  dModel: 32,
  nHead: 2,
  dInner: 64,
  dropout: 0,
};
const options: TrainOptions = {
  ...{ batchSize: 4, targetLength: 24, memoryLength: 16, steps: 200, optimizer: 'adamw', learningRate: 5e-3 },
  ...{ warmupSteps: 20, clipNorm: 1 },
  evaluation: { batchSize: 2 },
};

let tokenizer: XLNetTokenizer;
let model: XLNetLMHeadModel;
beforeAll(async () => {
  tokenizer = await XLNetTokenizer.fromFolder(fixturePath('tokenizers', 'xlnet-small'));
});
beforeEach(() => {
  model = new XLNetLMHeadModel(config, { seed: 2, device: 'cpu' });
});
afterEach(() => model.dispose());

const task = (more: Partial<PermutationData> = {}, changes: TrainOptions = {}) =>
  made(permutationTask(model, { train: text, tokenizer, ...more }), { ...options, ...changes });

test('a batch is a function of epoch and position', async () => {
  const places = [
    [0, 0],
    [0, 1],
    [0, 5],
    [1, 0],
  ] as const;
  const losses = async (order: typeof places | readonly (readonly [number, number])[]) => {
    const made = task();
    const found = new Map<string, number[]>();
    for (const [epoch, position] of order) {
      found.set(`${epoch} ${position}`, await lossesOf(made.batchAt(epoch, position)!));
    }
    return found;
  };
  const forwards = await losses(places);
  expect(await losses([...places].reverse())).toEqual(new Map([...forwards].reverse()));
  expect(new Set([...forwards.values()].flat()).size).toBe(places.length);
});

test('an epoch ends; positions count samples, tokens all rows', () => {
  const { batchAt } = task();
  let position = 0;
  for (let batch = batchAt(0, 0); batch !== null; batch = batchAt(0, position)) {
    expect([batch.tokens, batch.next]).toEqual([96, position + 1]);
    position = batch.next;
  }
  const tokens = tokenizer.encode(text.replaceAll('\n', ' '), { addSpecialTokens: false }).ids.length + 20;
  // Four streams, a sample every 12 tokens.
  expect(position).toBe(Math.floor((Math.floor(tokens / 4) - 24) / 12) + 1);
});

test.each([false, true])('weights are shares of the targets and add up to 1, biData %p', (biData) => {
  const { batchAt } = task({ options: { biData, numPredict: 8 } }, { accumulation: 2 });
  const seen = new Set<number>();
  for (let position = 0; position < 6; position += 1) {
    const weights = batchAt(0, position)!.microBatches.map(({ weight }) => weight);
    expect(weights).toHaveLength(2);
    expect(weights[0]! + weights[1]!).toBeCloseTo(1, 12);
    weights.forEach((weight) => seen.add(weight));
  }
  // Where <sep> or <cls> was chosen, a part has fewer.
  expect(seen.size).toBeGreaterThan(1);
});

test.each([false, true])('micro-batches give the losses of the whole batch, biData %p', async (biData) => {
  const run = async (accumulation: number) => {
    const fresh = new XLNetLMHeadModel(config, { seed: 2, device: 'cpu' });
    const factory = permutationTask(fresh, { train: text, tokenizer, options: { biData, numPredict: 8 } });
    const trainer = new Trainer(factory, { ...options, accumulation });
    const values = await trained(trainer, 5);
    trainer.dispose();
    fresh.dispose();
    return values;
  };
  const [whole, parts] = [await run(1), await run(2)];
  whole.forEach((value, step) => expect(parts[step]).toBeCloseTo(value, 4));
});

test('what a checkpoint knows of the data changes with text, held-out text, tokenizer and samples', async () => {
  const { data } = task();
  expect(task().data).toEqual(data);
  const differing = (other: typeof data) =>
    Object.keys(data).filter((name) => JSON.stringify(data[name]) !== JSON.stringify(other[name]));
  expect(differing(task({ train: `${text}The end.` }).data)).toEqual(['text', 'tokenizer']);
  expect(differing(task({ valid: text }).data)).toEqual(['heldOutText']);
  expect(differing(task({ options: { spanMode: 'upstream' } }).data)).toEqual(['spanMode']);
  const folder = fixturePath('tokenizers', 'xlnet-small');
  const slow = await XLNetTokenizer.fromFile(`${folder}/spiece.model`);
  expect(differing(task({ train: 'a 1,2 b\n'.repeat(100), tokenizer: slow }).data)).toContain('tokenizer');
});

test('memory is carried: it changes the loss, and is as long as asked', async () => {
  const { batchAt } = task();
  model.eval();
  const first = batchAt(0, 0)!.microBatches[0]!;
  const second = batchAt(0, 1)!.microBatches[0]!;
  const { loss, mems } = first.forward(null);
  // Half of 24 tokens is reused.
  expect([mems!.length, mems!.batch]).toEqual([12, 4]);
  const next = second.forward(mems);
  expect(next.mems!.length).toBe(16);
  expect(await next.loss.item()).not.toBe(await lossOf(second));
  for (const each of [loss, mems!, next.loss, next.mems!]) each.dispose();
  expect(task({}, { memoryLength: 0 }).batchAt(0, 0)!.microBatches[0]!.forward(null).mems).toBeNull();
});

test('a model learns a repeating text; evaluation leaves it as it was', async () => {
  const factory = permutationTask(model, { train: text, valid: text, tokenizer });
  const trainer = new Trainer(factory, options);
  const losses = await trained(trainer, 200);
  expect(losses[0]).toBeGreaterThan(Math.log(2000) / 2);
  // Who knows how often each token occurs, and no more, has the entropy of the frequencies as his loss.
  const ids = tokenizer.encode(text.replaceAll('\n', ' '), { addSpecialTokens: false }).ids;
  const counts = new Map<number, number>();
  for (const id of ids) counts.set(id, (counts.get(id) ?? 0) + 1);
  const entropy = [...counts.values()].reduce((sum, n) => sum - (n / ids.length) * Math.log(n / ids.length), 0);
  const state = model.generator.state();
  const evaluation = (await trainer.evaluate())!;
  expect(evaluation.loss).toBeLessThan(entropy / 2);
  expect(evaluation.perplexity).toBeCloseTo(Math.exp(evaluation.loss), 10);
  expect(evaluation.targets).toBeGreaterThan(100);
  expect(await trainer.evaluate()).toEqual(evaluation);
  expect([model.training, model.memoryLength, model.generator.state()]).toEqual([true, 16, state]);
  trainer.dispose();
});

test('evaluation stops at a signal', async () => {
  const { evaluate } = task({ valid: text });
  await expect(evaluate!(AbortSignal.abort(new Error('enough')))).rejects.toThrow('enough');
  expect(model.memoryLength).toBe(16);
});

test.each<[Partial<PermutationData>, TrainOptions, string]>([
  [{ train: '' }, {}, 'training text: got 0 tokens, expected at least 96 for 4 streams of samples of 24'],
  [{ valid: 'Too short.' }, {}, /* 2 rows */ 'held-out text: got'],
  [{}, { evaluation: { targetLength: 12 } }, 'train.evaluation.targetLength: got 12, expected targetLength 24'],
  [{ options: { permSize: 5 } }, {}, 'data.permSize: got 5, expected a divisor of reuseLen 12'],
  [{ options: { biData: true } }, { accumulation: 4 }, 'data.batchSize: got 4, expected a multiple of 8'],
])('refuses %j with %j', (data, changes, message) => {
  expect(() => task(data, changes)).toThrow(message);
});

test('a tokenizer with more ids than the model is refused', () => {
  const small = new XLNetLMHeadModel({ ...config, vocabSize: 1999 }, { device: 'cpu' });
  expect(() => permutationTask(small, { train: text, tokenizer })).toThrow(
    'config.vocabSize: got 1999, expected at least 2000',
  );
  small.dispose();
});
