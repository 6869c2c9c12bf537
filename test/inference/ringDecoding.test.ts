/** Decoding over a full memory keeps it in rings and replays a recording: the numbers must be those of whole passes, bit for bit. */
import {
  Generator,
  generateBatch,
  noGrad,
  sample,
  slice,
  Tensor,
  TransformerXLLMHeadModel,
  type GenerateBatchOptions,
  type GeneratedBatchToken,
  type Memory,
  type TransformerXLOptions,
} from '../../lib';
import { MemoryRing } from '../../lib/nn/memoryRing';
import * as recording from '../../lib/record';
import { device, emulated } from '../support/operators';
import { TestRandom } from '../support/random';

const options: TransformerXLOptions = {
  ...{ vocabSize: 40, cutoffs: [10, 20], divVal: 2, nLayer: 3, dModel: 24, dEmbed: 24, nHead: 3, dHead: 8 },
  ...{ dInner: 32, memLen: 7, clampLen: 5, initStd: 0.3 },
};
const random = new TestRandom(12);
const records = jest.spyOn(recording, 'record');
beforeEach(() => records.mockClear());

function makeModel(more: Partial<TransformerXLOptions> = {}): TransformerXLLMHeadModel {
  const model = new TransformerXLLMHeadModel({ ...options, ...more }, { device, seed: 5 });
  model.eval();
  return model;
}

/** What passes with a memory give for each token of the texts, from the prompt's last on: log-probabilities [texts, vocabSize]. */
class Passes {
  private mems: Memory | undefined;

  constructor(private readonly model: TransformerXLLMHeadModel) {}

  async read(ids: readonly (readonly number[])[]): Promise<number[]> {
    const out = noGrad(() => this.model.forward({ inputIds: ids.map((row) => [...row]), mems: this.mems }));
    this.mems = out.mems as Memory;
    const logits = await out.predictionScores!.data();
    const [rows, length] = [ids.length, ids[0]!.length];
    return Array.from({ length: rows }, (_, row) => {
      const at = (row * length + length - 1) * 40;
      return [...logits.slice(at, at + 40)];
    }).flat();
  }

  keep(rows: readonly number[]): void {
    this.mems = noGrad(() => (this.mems as Memory).select(rows));
  }
}

const prompt = (length: number) => [...random.integers(length, 0, 39)];

async function compare(
  model: TransformerXLLMHeadModel,
  prompts: readonly number[][],
  steps: number,
  between: (step: number, session: { keep(rows: readonly number[]): void }, passes: Passes) => number = () =>
    prompts.length,
): Promise<void> {
  const [session, passes] = [model.startDecoding(), new Passes(model)];
  const expectSame = async (scores: Tensor, expected: number[]) => {
    expect([...(await scores.data())]).toEqual(expected);
    scores.dispose();
  };
  // What follows is compared: of a prompt the session scores the last token only, by another order of sums.
  (await session.start(prompts.map((ids) => Int32Array.from(ids)))).dispose();
  await passes.read(prompts);
  for (let step = 0; step < steps; step += 1) {
    const rows = between(step, session, passes);
    const ids = [...random.integers(rows, 0, 39)];
    await expectSame(session.step(ids), await passes.read(ids.map((id) => [id])));
  }
  session.dispose();
}

test.each([
  ['zeros first', {}],
  ['same length', { sameLength: true }],
  ['pre-norm', { preLnorm: true }],
  ['a memory of one row', { memLen: 1 }],
  ['an empty memory first', { compatibility: 'pytorch-original' as const }],
])('one token a step, %s', async (_, more) => {
  const model = makeModel(more);
  await compare(model, [prompt(4)], 25);
  expect(records).toHaveBeenCalledTimes(1);
  model.dispose();
});

test('several texts, some of which leave', async () => {
  const model = makeModel();
  let rows = 3;
  await compare(model, [prompt(4), prompt(4), prompt(4)], 20, (step, session, passes) => {
    const kept = step === 6 ? [0, 2] : step === 12 ? [1] : null;
    if (kept) {
      session.keep(kept);
      passes.keep(kept);
      rows = kept.length;
    }
    return rows;
  });
  expect(records).toHaveBeenCalledTimes(3);
  model.dispose();
});

test('weights that change, training, and another memory length end the ring, not the text', async () => {
  const model = makeModel({ dropout: 0, dropatt: 0 });
  const orders = jest.spyOn(MemoryRing.prototype, 'memory');
  const weight = [...model.parameters()].map(([, each]) => each).find(({ shape }) => shape.length === 2)!;
  const values = await weight.data();
  await compare(model, [prompt(3)], 40, (step) => {
    if (step === 10) weight.overwrite(values.map((value) => value * 1.5) as typeof values);
    if (step === 20) model.resetMemoryLength(9);
    if (step === 30) model.resetMemoryLength(5);
    if (step === 36) model.train();
    if (step === 38) model.eval();
    return 1;
  });
  expect(orders).toHaveBeenCalledTimes(4);
  // At first, with other weights, with 9 rows once there are so many, with 5, and after training.
  expect(records).toHaveBeenCalledTimes(5);
  model.dispose();
});

test('scores of a step stay what they are when the next one has run', async () => {
  const model = makeModel();
  const session = model.startDecoding();
  (await session.start([Int32Array.of(1, 2, 3)])).dispose();
  const first = session.step([4]);
  const before = [...(await first.data())];
  session.step([5]).dispose();
  expect([...(await first.data())]).toEqual(before);
  first.dispose();
  session.dispose();
  model.dispose();
});

describe('generating feeds what it draws to the next step on the device', () => {
  type Options = GenerateBatchOptions & { seed: number[] };

  /** The same by the public steps: scores to the host's sampler, which reads the ids and uploads them again. */
  async function throughTheHost(
    model: TransformerXLLMHeadModel,
    prompts: readonly number[][],
    { maxTokens, stopId, seed, ...sampling }: Options,
  ): Promise<GeneratedBatchToken[]> {
    const generators = seed.map((each) => new Generator(each));
    const session = model.startDecoding();
    const tokens: GeneratedBatchToken[] = [];
    let scores = await session.start(prompts.map((ids) => Int32Array.from(ids)));
    let rows = prompts.map((_, row) => row);
    for (let count = 0; count < maxTokens && rows.length > 0; count += 1) {
      const drawn: GeneratedBatchToken[] = [];
      for (const [index, row] of rows.entries()) {
        const generator = generators[row]!;
        const { ids, logProbability } = sample(slice(scores, 0, index, index + 1), { ...sampling, generator });
        drawn.push({ row, id: (await ids.data())[0]!, logProbability: (await logProbability.data())[0]! });
      }
      const going = rows.map((_, index) => index).filter((index) => drawn[index]!.id !== stopId);
      tokens.push(...going.map((index) => drawn[index]!));
      if (going.length > 0 && going.length < rows.length) session.keep(going);
      rows = going.map((index) => rows[index]!);
      if (rows.length > 0) scores = session.step(going.map((index) => drawn[index]!.id));
    }
    session.dispose();
    return tokens;
  }

  async function generated(
    model: TransformerXLLMHeadModel,
    prompts: readonly number[][],
    options: Options,
    after: (token: number) => void = () => {},
  ): Promise<GeneratedBatchToken[]> {
    const tokens: GeneratedBatchToken[] = [];
    for await (const token of generateBatch(model, prompts, options)) {
      tokens.push(token);
      after(tokens.length);
    }
    return tokens;
  }

  test.each<[string, Partial<Options>]>([
    ['greedy', { temperature: 0 }],
    ['sampled', {}],
    ['cut', { temperature: 1.3, topK: 20, topP: 0.9 }],
  ])('with the tokens that steps through the host give, %s', async (_, sampling) => {
    const model = makeModel();
    for (const [prompts, seed] of [
      [[prompt(4)], [2 ** 40 + 1]],
      [
        [prompt(9), prompt(2), prompt(9)],
        [3, 1, 3],
      ],
    ] as const) {
      const options = { maxTokens: emulated ? 14 : 24, ...sampling, seed: [...seed] };
      const expected = await throughTheHost(model, prompts, options);
      records.mockClear();
      expect(await generated(model, prompts, options)).toEqual(expected);
      expect(records).toHaveBeenCalledTimes(1);
      // What ends a text in the middle, so that the others go on without it.
      const stopId = expected[Math.floor(expected.length / 2)]!.id;
      const stopped = await throughTheHost(model, prompts, { ...options, stopId });
      expect(stopped.length).toBeLessThan(expected.length);
      const actual = await generated(model, prompts, { ...options, stopId });
      expect(actual.map(({ row, id }) => [row, id])).toEqual(stopped.map(({ row, id }) => [row, id]));
      // The step after a text's last was enqueued with it: the sums of products of another number of rows, down to about -20.
      actual.forEach(({ logProbability }, index) => {
        expect(Math.abs(logProbability - stopped[index]!.logProbability)).toBeLessThan(1e-4);
      });
    }
    model.dispose();
  });

  test('also when the ring ends and begins again in between', async () => {
    const model = makeModel();
    const options = { maxTokens: 30, seed: [7, 8] };
    const prompts = [prompt(4), prompt(6)];
    const expected = await generated(model, prompts, options);
    const weight = [...model.parameters()].map(([, each]) => each).find(({ shape }) => shape.length === 2)!;
    const values = await weight.data();
    records.mockClear();
    // The same values, which count as others.
    const actual = await generated(model, prompts, options, (count) => {
      if (count === 16 || count === 31) weight.overwrite(values);
    });
    expect(actual.map(({ id }) => id)).toEqual(expected.map(({ id }) => id));
    expect(records).toHaveBeenCalledTimes(3);
    model.dispose();
  });
});
