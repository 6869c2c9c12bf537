import {
  TransformerXLLMHeadModel,
  XLNetLMHeadModel,
  noGrad,
  type DecodingOptions,
  type GenerativeModel,
  type Memory,
  type TransformerXLOptions,
  type XLNetOptions,
} from '../../lib';
import { compatibilities } from '../../lib/models/compatibility';
import { epsilon, expectClose } from '../support/operators';
import { TestRandom } from '../support/random';

const xlnetConfig: XLNetOptions = {
  vocabSize: 50,
  dModel: 24,
  nLayer: 3,
  nHead: 3,
  dInner: 40,
  memLen: null,
  initializerRange: 0.3,
};
const random = new TestRandom(91);
const text = random.integers(40, 0, 49);

/** The scores after each token of the text from `promptLength` on. */
async function scoresAlong(
  model: GenerativeModel,
  promptLength: number,
  options: DecodingOptions,
): Promise<ArrayLike<number>[]> {
  const session = model.startDecoding(options);
  const all: ArrayLike<number>[] = [];
  let scores = await session.start([text.slice(0, promptLength)]);
  for (let end = promptLength; ; end += 1) {
    all.push(await scores.data());
    scores.dispose();
    if (end === text.length) break;
    scores = session.step([text[end]!]);
  }
  session.dispose();
  return all;
}

describe.each([
  ['float64', 1e-10],
  // Logits of about 10 after 3 layers of sums of 40 products.
  ['float32', 3 * 40 * 8 * epsilon.float32],
] as const)('exact decoding of XLNet in %s', (dtype, tolerance) => {
  test.each(['bi', 'uni'] as const)('cached logits are uncached ones, attention %s', async (attnType) => {
    const model = new XLNetLMHeadModel({ ...xlnetConfig, attnType }, { device: 'cpu', dtype, seed: 4 });
    const uncached = await scoresAlong(model, 5, { useMems: false });
    const cached = await scoresAlong(model, 5, {});
    const segmented = await scoresAlong(model, 17, { segmentLength: 4 });
    expect(cached).toHaveLength(36);
    cached.forEach((scores, step) => expectClose(scores, uncached[step]!, tolerance, `step ${step}`));
    segmented.forEach((scores, step) => expectClose(scores, uncached[step + 12]!, tolerance, `segments, step ${step}`));
    model.dispose();
  });

  test('logits are those of a causal permutation mask over the whole text', async () => {
    const model = new XLNetLMHeadModel(xlnetConfig, { device: 'cpu', dtype, seed: 4 });
    const length = text.length + 1;
    const permMask = Array.from({ length }, (_, p) => Array.from({ length }, (_, c) => (c >= p ? 1 : 0)));
    const out = noGrad(() =>
      model.forward({
        inputIds: [[...text, 0]],
        permMask: [permMask],
        targetPositions: [Array.from({ length }, (_, position) => position)],
      }),
    );
    const expected = await out.logits.data();
    const cached = await scoresAlong(model, 1, {});
    cached.forEach((scores, step) =>
      expectClose(scores, expected.slice((step + 1) * 50, (step + 2) * 50), tolerance, `step ${step}`),
    );
    model.dispose();
  });
});

test('a memory as long as the text is enough for exact decoding, a shorter one forgets', async () => {
  const model = new XLNetLMHeadModel(xlnetConfig, { device: 'cpu', dtype: 'float64', seed: 4 });
  const whole = await scoresAlong(model, 5, { useMems: false });
  model.resetMemoryLength(text.length);
  const enough = await scoresAlong(model, 5, {});
  enough.forEach((scores, step) => expectClose(scores, whole[step]!, 1e-10));
  model.resetMemoryLength(10);
  const short = await scoresAlong(model, 5, {});
  expectClose(short[5]!, whole[5]!, 1e-10);
  expect(() => expectClose(short[30]!, whole[30]!, 1e-3)).toThrow(/off by/);
  model.dispose();
});

test("Hugging Face's way gives other numbers with memory than without", async () => {
  const model = new XLNetLMHeadModel(xlnetConfig, { device: 'cpu', dtype: 'float64', seed: 4 });
  const [cached, uncached] = [
    await scoresAlong(model, 5, { decoding: 'hf' }),
    await scoresAlong(model, 5, { decoding: 'hf', useMems: false }),
  ];
  expectClose(cached[0]!, uncached[0]!, 1e-12);
  expect(() => expectClose(cached[9]!, uncached[9]!, 1e-3)).toThrow(/off by/);
  model.dispose();
});

const txlConfig = {
  ...{ vocabSize: 50, cutoffs: [10, 20], divVal: 2, nLayer: 2, dModel: 24, dEmbed: 24, nHead: 3, dHead: 8 },
  ...{ dInner: 32, memLen: 64, clampLen: -1, initStd: 0.3 },
};

const makeTxl = (more: TransformerXLOptions) =>
  new TransformerXLLMHeadModel({ ...txlConfig, ...more }, { device: 'cpu', dtype: 'float64', seed: 4 });

describe('decoding of Transformer-XL', () => {
  test.each(compatibilities)('carries the memory of the forward pass: %s', async (compatibility) => {
    for (const sameLength of [true, false]) {
      const model = makeTxl({ compatibility, sameLength, memLen: 12 });
      const scores = await scoresAlong(model, 5, {});
      let mems: Memory | undefined;
      let start = 0;
      for (let end = 5; end <= text.length; end += 1) {
        const out = noGrad(() => model.forward({ inputIds: [text.slice(start, end)], mems }));
        const all = await out.predictionScores!.data();
        expectClose(scores[end - 5]!, all.slice(-50), 1e-12, `after ${end} tokens`);
        mems = out.mems!;
        start = end;
      }
      model.dispose();
    }
  });

  // Where zeros come first, only sameLength keeps a token from seeing more of them in one pass than with memory.
  test.each([
    ...compatibilities.map((compatibility) => ({ compatibility, sameLength: true })),
    { compatibility: 'pytorch-original' as const, sameLength: false },
    { compatibility: 'nvidia' as const, sameLength: false },
  ])('gives what reading the whole text gives, while the memory holds it: %o', async (more) => {
    const model = makeTxl(more);
    const cached = await scoresAlong(model, 5, { segmentLength: 2 });
    const whole = await scoresAlong(model, 5, { useMems: false });
    cached.forEach((scores, step) => expectClose(scores, whole[step]!, 1e-10, `step ${step}`));
    model.dispose();
  });

  test('without a memory, every step reads the whole text', async () => {
    const model = makeTxl({ memLen: 0, sameLength: false });
    const out = noGrad(() => model.forward({ inputIds: [[...text]] }));
    const expected = await out.predictionScores!.data();
    const scores = await scoresAlong(model, 3, {});
    scores.forEach((each, step) => expectClose(each, expected.slice((step + 2) * 50, (step + 3) * 50), 1e-10));
    model.dispose();
  });
});

test('options that a model does not have are refused', () => {
  const xlnet = new XLNetLMHeadModel(xlnetConfig, { device: 'cpu' });
  const txl = new TransformerXLLMHeadModel({ ...txlConfig, sameLength: false }, { device: 'cpu' });
  const biData = new XLNetLMHeadModel({ ...xlnetConfig, biData: true }, { device: 'cpu' });
  const sameLength = new XLNetLMHeadModel({ ...xlnetConfig, attnType: 'uni', sameLength: true }, { device: 'cpu' });
  expect(() => xlnet.startDecoding({ decoding: 'HF' as 'hf' })).toThrow(/decoding: got 'HF', expected 'exact' or 'hf'/);
  expect(() => xlnet.startDecoding({ useMems: 1 as unknown as boolean })).toThrow(/useMems: got 1/);
  expect(() => xlnet.startDecoding({ segmentLength: 0 })).toThrow(/segmentLength: got 0/);
  expect(() => txl.startDecoding({ decoding: 'hf' })).toThrow(/decoding: got 'hf', which is a way of XLNet/);
  expect(() => biData.startDecoding()).toThrow(/config.biData: got true/);
  expect(() => sameLength.startDecoding()).toThrow(/config.sameLength: got true/);
  expect(() => sameLength.startDecoding({ decoding: 'hf' })).not.toThrow();
  for (const model of [xlnet, txl, biData, sameLength]) model.dispose();
});
