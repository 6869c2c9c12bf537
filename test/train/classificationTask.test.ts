import {
  type ClassificationData,
  type LabelledText,
  type TrainOptions,
  Trainer,
  XLNetForSequenceClassification,
  type XLNetOptions,
  XLNetTokenizer,
  classificationTask,
  evaluateClassifier,
} from '../../lib';
import { fixturePath } from '../support/fixtures';
import { TestRandom } from '../support/random';
import { lossesOf, made, trained } from '../support/tasks';

const words = { sea: ['whale', 'ship', 'sea', 'captain'], land: ['house', 'street', 'man', 'woman'] };

function makeExamples(count: number, seed: number): LabelledText[] {
  const random = new TestRandom(seed);
  return Array.from({ length: count }, (_, index) => {
    const label = index % 2 === 0 ? 'sea' : 'land';
    const text = Array.from({ length: random.integer(1, 9) }, () => random.pick(['the', ...words[label]]));
    return { text: [random.pick(words[label]), ...text].join(' '), label };
  });
}

const examples = makeExamples(23, 1);
const config: XLNetOptions = {
  ...{ vocabSize: 2000, nLayer: 2, dModel: 32, nHead: 2, dInner: 64, dropout: 0, summaryLastDropout: 0 },
  labelNames: ['land', 'sea'],
};
const options: TrainOptions = {
  ...{ batchSize: 5, targetLength: 12, steps: 100, optimizer: 'adamw', learningRate: 5e-3, clipNorm: 1 },
};

let tokenizer: XLNetTokenizer;
let model: XLNetForSequenceClassification;
beforeAll(async () => {
  tokenizer = await XLNetTokenizer.fromFolder(fixturePath('tokenizers', 'xlnet-small'));
});
beforeEach(() => {
  model = new XLNetForSequenceClassification(config, { seed: 2, device: 'cpu' });
});
afterEach(() => model.dispose());

const task = (more: Partial<ClassificationData> = {}, changes: TrainOptions = {}) =>
  made(classificationTask(model, { train: examples, tokenizer, ...more }), { ...options, ...changes });

test('a batch is a function of epoch and position; an epoch has every example once', async () => {
  const places = Array.from({ length: 10 }, (_, index) => [index < 5 ? 0 : 1, index % 5] as const);
  const losses = async (order: (readonly [number, number])[]) => {
    const { batchAt } = task();
    const found: [string, number][] = [];
    for (const [epoch, position] of order) {
      found.push([`${epoch} ${position}`, (await lossesOf(batchAt(epoch, position)!))[0]!]);
    }
    return Object.fromEntries(found);
  };
  const forwards = await losses(places);
  expect(await losses([...places].reverse())).toEqual(forwards);
  expect(new Set(Object.values(forwards)).size).toBe(10);

  const { batchAt } = task();
  const batches = Array.from({ length: 5 }, (_, position) => batchAt(0, position)!);
  expect(batchAt(0, 5)).toBeNull();
  expect(batches.map(({ next }) => next)).toEqual([1, 2, 3, 4, 5]);
  // Tokens read are those of the texts, padding not counted.
  const tokens = examples.map(({ text }) => Math.min(12, tokenizer.encode(text).ids.length));
  const sum = (values: number[]) => values.reduce((a, b) => a + b, 0);
  expect(sum(batches.map((batch) => batch.tokens))).toBe(sum(tokens));
});

test('weights are shares of the examples and add up to 1, also in the last batch', () => {
  const { batchAt } = task({}, { accumulation: 5 });
  const weights = [0, 4].map((position) => batchAt(0, position)!.microBatches.map(({ weight }) => weight));
  expect(weights).toEqual([
    [0.2, 0.2, 0.2, 0.2, 0.2],
    // Of 23 examples three are left.
    [1 / 3, 1 / 3, 1 / 3],
  ]);
  const unlike = task({}, { batchSize: 10, accumulation: 2 }).batchAt(0, 2)!.microBatches;
  expect(unlike.map(({ weight }) => weight)).toEqual([2 / 3, 1 / 3]);
});

test('micro-batches give the losses of the whole batch, whatever their padding', async () => {
  const run = async (accumulation: number) => {
    const fresh = new XLNetForSequenceClassification(config, { seed: 2, device: 'cpu' });
    const trainer = new Trainer(classificationTask(fresh, { train: examples, tokenizer }), {
      ...{ ...options, batchSize: 6, accumulation },
    });
    const values = await trained(trainer, 9);
    trainer.dispose();
    fresh.dispose();
    return values;
  };
  const [whole, parts] = [await run(1), await run(3)];
  whole.forEach((value, step) => expect(parts[step]).toBeCloseTo(value, 4));
});

test('what a checkpoint knows of the data changes with examples, labels and tokenizer', () => {
  const { data } = task();
  expect(task().data).toEqual(data);
  expect(data.labels).toEqual(['land', 'sea']);
  const differing = (other: typeof data) =>
    Object.keys(data).filter((name) => JSON.stringify(data[name]) !== JSON.stringify(other[name]));
  const relabelled = examples.map((example, index) => (index === 3 ? { ...example, label: 'sea' } : example));
  expect(differing(task({ train: relabelled }).data)).toEqual(['examples']);
  expect(differing(task({ valid: examples }).data)).toEqual(['heldOutExamples']);
  expect(differing(task({}, { targetLength: 5 }).data)).toEqual(['tokenizer']);
});

test('a model learns to tell two sets of words apart', async () => {
  const valid = makeExamples(40, 9);
  const trainer = new Trainer(classificationTask(model, { train: examples, valid, tokenizer }), options);
  const losses = await trained(trainer, 100);
  // Guessing costs ln 2.
  expect(Math.abs(losses[0]! - Math.LN2)).toBeLessThan(0.2);
  const state = model.generator.state();
  const evaluation = (await trainer.evaluate())!;
  expect(evaluation.loss).toBeLessThan(Math.LN2 / 10);
  expect(evaluation).toMatchObject({ accuracy: 1, f1: 1, count: 40, labels: ['land', 'sea'], macro: { f1: 1 } });
  expect(evaluation.perClass.map(({ support }) => support)).toEqual([20, 20]);
  expect([model.training, model.generator.state()]).toEqual([true, state]);
  // The same by itself, in batches of another size.
  const again = await evaluateClassifier(model, valid, { tokenizer, maxLength: 12, batchSize: 7 });
  expect(again.confusion).toEqual(evaluation.confusion);
  expect(again.loss).toBeCloseTo(evaluation.loss, 5);
  trainer.dispose();
});

test('evaluation stops at a signal', async () => {
  const { evaluate } = task({ valid: examples });
  await expect(evaluate!(AbortSignal.abort(new Error('enough')))).rejects.toThrow('enough');
});

test.each<[Partial<ClassificationData>, string]>([
  [{ train: [] }, 'train: got an array of length 0, expected at least one example'],
  [{ valid: [] }, 'valid: got an array of length 0'],
  [{ train: [{ text: 'a', label: 'air' }] }, "train[0]: got label 'air', expected one of land, sea"],
  [{ valid: [examples[0]!, { text: 'a', label: 'air' }] }, "valid[1]: got label 'air', expected one of land, sea"],
])('refuses %j', (data, message) => {
  expect(() => task(data)).toThrow(message);
});

test.each<[XLNetOptions, string]>([
  [{ labelNames: null }, 'config.labelNames: is missing'],
  [{ labelNames: ['sea'] }, 'config.labelNames: got sea alone, expected two classes or more'],
  [{ vocabSize: 100 }, 'config.vocabSize: got 100, expected at least 2000'],
])('a model with %j is refused', (changes, message) => {
  const other = new XLNetForSequenceClassification({ ...config, ...changes }, { device: 'cpu' });
  expect(() => made(classificationTask(other, { train: examples, tokenizer }), options)).toThrow(message);
  other.dispose();
});

test('texts too long for the length are cut, and a length without room is refused', () => {
  expect(task({}, { targetLength: 3 }).batchAt(0, 0)!.tokens).toBe(15);
  expect(() => task({}, { targetLength: 1 })).toThrow('maxLength: got 1');
});
