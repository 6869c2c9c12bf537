import {
  TransformerXLLMHeadModel,
  XLNetLMHeadModel,
  generate,
  generateBatch,
  type FloatDType,
  type GenerateOptions,
  type GeneratedToken,
  type GenerativeModel,
} from '../../lib';
import { compatibilities } from '../../lib/models/compatibility';
import { TestRandom } from '../support/random';

const random = new TestRandom(12);
const vocabSize = 50;
// Equal lengths, one token, and longer than memories and segments.
const prompts = [7, 1, 23, 7, 3].map((length) => random.integers(length, 0, vocabSize - 1));

type Make = (dtype: FloatDType) => GenerativeModel & { dispose(): void };

const xlnet =
  (memLen: number | null): Make =>
  (dtype) =>
    new XLNetLMHeadModel(
      { vocabSize, dModel: 24, nLayer: 2, nHead: 3, dInner: 40, memLen, initializerRange: 0.3 },
      { device: 'cpu', dtype, seed: 4 },
    );
const txl =
  (more: object): Make =>
  (dtype) =>
    new TransformerXLLMHeadModel(
      {
        ...{ vocabSize, cutoffs: [10, 20], divVal: 2, nLayer: 2, dModel: 24, dEmbed: 24, nHead: 3, dHead: 8 },
        ...{ dInner: 32, memLen: 16, clampLen: -1, sameLength: false, initStd: 0.3, ...more },
      },
      { device: 'cpu', dtype, seed: 4 },
    );

const models: [string, Make, Partial<GenerateOptions>][] = [
  ['XLNet', xlnet(null), {}],
  ['XLNet with a short memory', xlnet(9), { segmentLength: 5 }],
  ['XLNet without memory', xlnet(null), { useMems: false }],
  ["XLNet, Hugging Face's way", xlnet(null), { decoding: 'hf' }],
  ["XLNet, Hugging Face's way with a short memory", xlnet(6), { decoding: 'hf' }],
  ["XLNet, Hugging Face's way without memory", xlnet(null), { decoding: 'hf', useMems: false }],
  ...compatibilities.flatMap((compatibility): [string, Make, Partial<GenerateOptions>][] => [
    [`Transformer-XL, ${compatibility}`, txl({ compatibility }), { segmentLength: 5 }],
    [`Transformer-XL, ${compatibility}, same length`, txl({ compatibility, sameLength: true, preLnorm: true }), {}],
  ]),
  ['Transformer-XL without memory', txl({ memLen: 0 }), {}],
  ['Transformer-XL reading everything again', txl({}), { useMems: false }],
];

async function alone(model: GenerativeModel, options: GenerateOptions, seeds: number[]): Promise<GeneratedToken[][]> {
  const all: GeneratedToken[][] = [];
  for (const [row, prompt] of prompts.entries()) {
    const tokens: GeneratedToken[] = [];
    for await (const token of generate(model, prompt, { ...options, seed: seeds[row]! })) tokens.push(token);
    all.push(tokens);
  }
  return all;
}

async function together(
  model: GenerativeModel,
  options: GenerateOptions,
  seed: number | number[],
): Promise<GeneratedToken[][]> {
  const all: GeneratedToken[][] = prompts.map(() => []);
  for await (const { row, ...token } of generateBatch(model, prompts, { ...options, seed })) all[row]!.push(token);
  return all;
}

const idsOf = (texts: GeneratedToken[][]) => texts.map((tokens) => tokens.map(({ id }) => id));

describe.each(models)('a batch of %s', (_, make, more) => {
  test.each([
    ['float64', 1e-11],
    // Log-probabilities down to about -20 of 2 layers with sums of 40 products.
    ['float32', 1e-4],
  ] as const)('gives the tokens that each prompt gives alone, %s', async (dtype, tolerance) => {
    const model = make(dtype);
    for (const [sampling, seed] of [
      [{ temperature: 0 }, 1],
      [{ temperature: 0.9, topK: 30, topP: 0.95 }, 7],
      [{}, [3, 1, 4, 1, 5]],
    ] as const) {
      const options: GenerateOptions = { maxTokens: 20, ...more, ...sampling };
      const seeds = typeof seed === 'number' ? prompts.map(() => seed) : [...seed];
      const expected = await alone(model, options, seeds);
      const actual = await together(model, options, typeof seed === 'number' ? seed : [...seed]);
      expect(idsOf(actual)).toEqual(idsOf(expected));
      actual.flat().forEach(({ logProbability }, index) => {
        expect(Math.abs(logProbability - expected.flat()[index]!.logProbability)).toBeLessThan(tolerance);
      });
    }
    model.dispose();
  });

  test('goes on when some of its texts have ended', async () => {
    const model = make('float64');
    const options: GenerateOptions = { maxTokens: 24, ...more, seed: 2 };
    const free = idsOf(await together(model, options, 2));
    // The id that ends as many texts as possible, but not all at once.
    const ends = (id: number) => new Set(free.map((ids) => ids.indexOf(id)));
    const stopId = Array.from({ length: vocabSize }, (_, id) => id).sort((a, b) => ends(b).size - ends(a).size)[0]!;
    expect(ends(stopId).size).toBeGreaterThan(1);
    const expected = free.map((ids) => (ids.includes(stopId) ? ids.slice(0, ids.indexOf(stopId)) : ids));
    expect(idsOf(await together(model, { ...options, stopId }, 2))).toEqual(expected);
    expect(
      idsOf(
        await alone(
          model,
          { ...options, stopId },
          prompts.map(() => 2),
        ),
      ),
    ).toEqual(expected);
    model.dispose();
  });
});

describe('generateBatch', () => {
  const model = xlnet(null)('float32');
  afterAll(() => model.dispose());

  test('tokens come step by step, in the order of the prompts', async () => {
    const rows: number[] = [];
    for await (const { row } of generateBatch(model, prompts.slice(0, 3), { maxTokens: 2 })) rows.push(row);
    expect(rows).toEqual([0, 1, 2, 0, 1, 2]);
  });

  test('equal prompts with unequal seeds give unequal texts', async () => {
    const texts: number[][] = [[], []];
    const options = { maxTokens: 12, seed: [1, 2] };
    for await (const { row, id } of generateBatch(
      model,
      [
        [5, 6],
        [5, 6],
      ],
      options,
    ))
      texts[row]!.push(id);
    expect(texts[0]).not.toEqual(texts[1]);
  });

  test('a signal ends it between steps, and while it reads a prompt', async () => {
    const controller = new AbortController();
    const seen: number[] = [];
    const run = async () => {
      for await (const { row } of generateBatch(model, prompts, { maxTokens: 50, signal: controller.signal })) {
        seen.push(row);
        if (seen.length === prompts.length) controller.abort(new Error('enough'));
      }
    };
    await expect(run()).rejects.toThrow('enough');
    expect(seen).toEqual([0, 1, 2, 3, 4]);
    const late = new AbortController();
    const long = new Array<number>(4000).fill(3);
    const reading = generateBatch(model, [long], { maxTokens: 1, segmentLength: 8, signal: late.signal }).next();
    setImmediate(() => late.abort(new Error('too long')));
    await expect(reading).rejects.toThrow('too long');
  });

  test('the mode that the model was in comes back', async () => {
    model.train();
    const tokens = generate(model, [1], { maxTokens: 3, seed: 1 });
    await tokens.next();
    expect(model.training).toBe(false);
    await tokens.return(undefined);
    expect(model.training).toBe(true);
    model.eval();
  });

  test.each([
    [[], {}, /prompts: got .*expected an array of one prompt or more/],
    ['text', {}, /prompts: got 'text'/],
    [[[1], []], {}, /prompts\[1\]: got .*expected token ids, at least one/],
    [[[1], 'ab'], {}, /prompts\[1\]: got 'ab'/],
    [[[1, 50]], {}, /prompts\[0\]\[1\]: got 50, expected an id in \[0, 50\)/],
    [[[1.5]], {}, /prompts\[0\]\[0\]: got 1.5/],
    [[[4294967297]], {}, /prompts\[0\]\[0\]: got 4294967297/],
    [[[1]], { maxTokens: -1 }, /maxTokens: got -1/],
    [[[1]], { maxTokens: 2.5 }, /maxTokens: got 2.5/],
    [[[1]], { stopId: 50 }, /stopId: got 50/],
    [[[1]], { seed: -1 }, /seed: got -1/],
    [[[1]], { seed: [1, 2] }, /seed: got .*expected a number or 1, one for each prompt/],
    [[[1]], { temperature: NaN }, /temperature: got NaN/],
    [[[1]], { temperature: -1 }, /temperature: got -1/],
    [[[1]], { temperature: Infinity }, /temperature: got Infinity/],
    [[[1]], { topK: -2 }, /topK: got -2/],
    [[[1]], { topP: 0 }, /topP: got 0/],
    [[[1]], { topP: 1.01 }, /topP: got 1.01/],
    [[[1]], { segmentLength: 0 }, /segmentLength: got 0/],
    [[[1]], { decoding: 'fast' }, /decoding: got 'fast'/],
  ] as const)('%j with %j is refused', async (given, options, message) => {
    const tokens = generateBatch(model, given as never, { maxTokens: 1, ...(options as object) });
    await expect(tokens.next()).rejects.toThrow(message);
  });

  test('no token is asked for', async () => {
    expect(await generateBatch(model, prompts, { maxTokens: 0 }).next()).toEqual({ done: true, value: undefined });
  });
});
