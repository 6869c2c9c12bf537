/** Texts through models: the functions give what the models' forward passes give. */
import {
  attentionWeights,
  ByteLevelTokenizer,
  classifyTexts,
  classNames,
  encodeTexts,
  fillMasked,
  noGrad,
  type Tensor,
  TransformerXLForSequenceClassification,
  TransformerXLModel,
  type TransformerXLOptions,
  XLNetForSequenceClassification,
  XLNetLMHeadModel,
  XLNetModel,
  type XLNetOptions,
  XLNetTokenizer,
} from '../../lib';
import { fixturePath } from '../support/fixtures';

const shape: XLNetOptions = {
  ...{ vocabSize: 2000, nLayer: 2, dModel: 32, nHead: 4, dInner: 48, initializerRange: 0.3, dropout: 0.5 },
};
/** float64: what is left of the difference between padded and single rows is rounding. */
const exact = { seed: 3, device: 'cpu', dtype: 'float64' } as const;
const byteShape: TransformerXLOptions = {
  ...{ vocabSize: 256, cutoffs: [], divVal: 1, tieProjs: [false], nLayer: 2, dModel: 16, dEmbed: 16, nHead: 2 },
  ...{ dHead: 8, dInner: 16, memLen: 6, initStd: 0.3, clampLen: -1, sameLength: true },
};
const texts = ['Hello, world!', 'Call me Ishmael. Some years ago', 'a', ''];
const bytes = new ByteLevelTokenizer();
let xlnet: XLNetTokenizer;
beforeAll(async () => {
  xlnet = await XLNetTokenizer.fromFolder(fixturePath('tokenizers', 'xlnet-small'));
});

async function collect<T>(results: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const result of results) all.push(result);
  return all;
}

const numbers = async (tensor: Tensor): Promise<number[]> => Array.from(await tensor.data());

/** Sums of some hundred products of numbers near 1 in double precision. */
const rounding = 1e-11;

function expectClose(actual: ArrayLike<number>, expected: ArrayLike<number>, tolerance = rounding): void {
  expect(actual.length).toBe(expected.length);
  const worst = Array.from(actual).reduce(
    (most, value, i) => Math.max(most, Math.abs(value - (expected[i] as number))),
    0,
  );
  expect(worst).toBeLessThan(tolerance);
}

describe('encodeTexts', () => {
  test.each(['last', 'first', 'mean', 'none'] as const)('%s of XLNet, padded or not', async (pool) => {
    const model = new XLNetModel(shape, exact);
    model.train();
    const found = await collect(encodeTexts(model, xlnet, texts, { pool, batchSize: 3 }));
    // Back in the mode that it was in.
    expect(model.training).toBe(true);
    model.eval();
    for (const [index, text] of texts.entries()) {
      const { ids, typeIds, tokens } = xlnet.encode(text);
      const states = await numbers(
        noGrad(() => model.forward({ inputIds: [ids], tokenTypeIds: [typeIds] })).lastHiddenState,
      );
      const rows = Array.from(ids, (_, row) => states.slice(row * 32, (row + 1) * 32));
      const mean = Array.from({ length: 32 }, (_, at) => rows.reduce((sum, row) => sum + row[at]!, 0) / rows.length);
      const expected = { last: rows.at(-1)!, first: rows[0]!, mean, none: states }[pool];
      expect(found[index]).toMatchObject({ text, tokens, shape: pool === 'none' ? [ids.length, 32] : [32] });
      expectClose(found[index]!.values, expected);
    }
    model.dispose();
  });

  test.each(['last', 'first', 'mean', 'none'] as const)('%s of Transformer-XL, padded or not', async (pool) => {
    const model = new TransformerXLModel(byteShape, exact);
    const some = ['to be or not', 'x', 'naïve'];
    const found = await collect(encodeTexts(model, bytes, some, { pool }));
    const single = await collect(encodeTexts(model, bytes, some, { pool, batchSize: 1 }));
    const states = await numbers(
      noGrad(() => model.forward({ inputIds: [bytes.encode('naïve').ids] })).lastHiddenState,
    );
    found.forEach(({ values }, index) => expectClose(values, single[index]!.values));
    const expected = { last: states.slice(-16), first: states.slice(0, 16), none: states, mean: null }[pool];
    if (expected) expectClose(found[2]!.values, expected);
    expect(found[2]!.tokens).toEqual(['n', 'a', '<0xC3>', '<0xAF>', 'v', 'e']);
    model.dispose();
  });

  test('what cannot be is refused by name', async () => {
    const model = new XLNetModel({ ...shape, vocabSize: 100 }, { device: 'cpu' });
    const run = (given: unknown, options = {}, tokenizer: XLNetTokenizer | ByteLevelTokenizer = xlnet) =>
      collect(encodeTexts(model, tokenizer, given as string[], options));
    await expect(run(['x'], { pool: 'max' })).rejects.toMatchObject({ code: 'ERR_ARG_RANGE' });
    await expect(run(['x'], { batchSize: 0 })).rejects.toThrow(/batchSize: got 0/);
    await expect(run('x')).rejects.toThrow(/texts: got 'x', expected an array/);
    await expect(run([5])).rejects.toThrow(/texts\[0\]: got 5, expected a string/);
    await expect(run(['x', ''], {}, bytes)).rejects.toThrow(/texts\[1\]: has no tokens/);
    await expect(run(['Hello, world!'])).rejects.toMatchObject({ code: 'ERR_TOKEN_ID' });
    await expect(run(['a'], { signal: AbortSignal.abort() })).rejects.toThrow(/abort/i);
    model.dispose();
  });
});

describe('fillMasked', () => {
  const text = 'The <mask> is <mask>, said the old man.';
  const model = new XLNetLMHeadModel(shape, exact);
  afterAll(() => model.dispose());

  /** Probabilities at the targets, with a dense mask and one-hot rows as Hugging Face's class has them. */
  async function direct(ids: number[], typeIds: Int32Array, hidden: number[], targets: number[]): Promise<number[][]> {
    const length = ids.length;
    const permMask = Array.from({ length }, () => ids.map((_, column) => (hidden.includes(column) ? 1 : 0)));
    const targetMapping = targets.map((target) => ids.map((_, column) => (column === target ? 1 : 0)));
    model.eval();
    const logits = await numbers(
      noGrad(() =>
        model.forward({
          inputIds: [ids],
          tokenTypeIds: [typeIds],
          permMask: [permMask],
          targetMapping: [targetMapping],
        }),
      ).logits,
    );
    return targets.map((_, row) => {
      const powers = logits.slice(row * 2000, (row + 1) * 2000).map(Math.exp);
      const sum = powers.reduce((total, power) => total + power, 0);
      return powers.map((power) => power / sum);
    });
  }

  const ranked = (probabilities: number[], k: number) =>
    probabilities
      .map((probability, id) => ({ id, probability }))
      .sort((a, b) => b.probability - a.probability)
      .slice(0, k);

  test('places are independent, and see the whole rest', async () => {
    const { ids, typeIds } = xlnet.encode(text);
    const hidden = Array.from(ids.keys()).filter((index) => ids[index] === xlnet.maskTokenId);
    expect(hidden).toHaveLength(2);
    const expected = await direct(Array.from(ids), typeIds, hidden, hidden);
    const filled = await fillMasked(model, xlnet, text, { topK: 4 });
    expect(filled.places.map(({ position }) => position)).toEqual(hidden);
    let logProbability = 0;
    filled.places.forEach(({ candidates }, index) => {
      const wanted = ranked(expected[index]!, 4);
      expect(candidates.map(({ id }) => id)).toEqual(wanted.map(({ id }) => id));
      expect(candidates.map(({ token }) => token)).toEqual(wanted.map(({ id }) => xlnet.idToToken(id)));
      expectClose(
        candidates.map(({ probability }) => probability),
        wanted.map(({ probability }) => probability),
      );
      expect(filled.ids[hidden[index]!]).toBe(wanted[0]!.id);
      logProbability += Math.log(wanted[0]!.probability);
    });
    expect(filled.logProbability).toBeCloseTo(logProbability, 10);
    const words = filled.places.map(({ candidates }) => candidates[0]!.token.replace('▁', ' '));
    expect(filled.text).toBe(`The${words[0]} is${words[1]}, said the old man.`);
  });

  test('left to right, each place sees what was put in before', async () => {
    const { ids, typeIds } = xlnet.encode(text);
    const open = Array.from(ids.keys()).filter((index) => ids[index] === xlnet.maskTokenId);
    const filled = await fillMasked(model, xlnet, text, { order: 'leftToRight' });
    const known = Array.from(ids);
    let logProbability = 0;
    for (const [index, position] of open.entries()) {
      const [probabilities] = await direct(known, typeIds, open.slice(index), [position]);
      const wanted = ranked(probabilities!, 5);
      expect(filled.places[index]!.candidates.map(({ id }) => id)).toEqual(wanted.map(({ id }) => id));
      known[position] = wanted[0]!.id;
      logProbability += Math.log(wanted[0]!.probability);
    }
    expect(Array.from(filled.ids)).toEqual(known);
    expect(filled.logProbability).toBeCloseTo(logProbability, 10);
    // The second place knows the first: that is what makes the order count.
    const independent = await fillMasked(model, xlnet, text);
    const best = (place: number, { places }: typeof filled) => places[place]!.candidates[0]!;
    expect(best(0, filled).id).toBe(best(0, independent).id);
    expect(best(0, filled).probability).toBeCloseTo(best(0, independent).probability, 11);
    expect(best(1, filled).probability).not.toBeCloseTo(best(1, independent).probability, 4);
  });

  test('what cannot be is refused by name', async () => {
    const run = (given: string, options = {}) => fillMasked(model, xlnet, given, options);
    await expect(run('nothing to fill')).rejects.toThrow(/text: has no <mask>, expected one at each place to fill/);
    await expect(run(text, { topK: 0 })).rejects.toThrow(/topK: got 0/);
    await expect(run(text, { topK: 2001 })).rejects.toMatchObject({ code: 'ERR_ARG_RANGE' });
    await expect(run(text, { order: 'random' })).rejects.toThrow(/order: got 'random'/);
    await expect(run(text, { signal: AbortSignal.abort() })).rejects.toThrow(/abort/i);
  });
});

describe('classifyTexts', () => {
  const logitsOf = (model: XLNetForSequenceClassification, text: string) => {
    const { ids, typeIds } = xlnet.encode(text);
    return numbers(noGrad(() => model.forward({ inputIds: [ids], tokenTypeIds: [typeIds] })).logits);
  };

  test.each([
    [null, 3, 'single_label_classification'],
    ['multi_label_classification', 3, 'multi_label_classification'],
    [null, 1, 'regression'],
    ['regression', 2, 'regression'],
  ] as const)('problem type %s with %d outputs is %s', async (given, numLabels, problemType) => {
    const model = new XLNetForSequenceClassification({ ...shape, numLabels, problemType: given }, exact);
    const labels = ['no', 'perhaps', 'yes'].slice(0, numLabels);
    const found = await collect(classifyTexts(model, xlnet, texts, { labels, batchSize: 2 }));
    for (const [index, text] of texts.entries()) {
      const logits = await logitsOf(model, text);
      const sum = logits.reduce((total, logit) => total + Math.exp(logit), 0);
      const scores = logits.map((logit) =>
        problemType === 'regression'
          ? logit
          : problemType === 'multi_label_classification'
            ? 1 / (1 + Math.exp(-logit))
            : Math.exp(logit) / sum,
      );
      const order = [...scores.keys()].sort((a, b) => scores[b]! - scores[a]!).map((id) => labels[id]!);
      const above = scores.filter((score) => score >= 0.5).length;
      const chosen = { single_label_classification: 1, multi_label_classification: above, regression: 0 }[problemType];
      expect(found[index]).toMatchObject({ text, problemType, labels: order.slice(0, chosen) });
      expect(found[index]!.scores.map(({ label }) => label)).toEqual(labels);
      expectClose(
        found[index]!.scores.map(({ score }) => score),
        scores,
      );
    }
    model.dispose();
  });

  test.each([null, 0])('Transformer-XL with padTokenId %p', async (padTokenId) => {
    const model = new TransformerXLForSequenceClassification({ ...byteShape, numLabels: 2, padTokenId }, exact);
    const some = ['to be or not', 'x', 'naïve'];
    const found = await collect(classifyTexts(model, bytes, some));
    for (const [index, text] of some.entries()) {
      const logits = await numbers(noGrad(() => model.forward({ inputIds: [bytes.encode(text).ids] })).logits);
      const first = 1 / (1 + Math.exp(logits[1]! - logits[0]!));
      expectClose(
        found[index]!.scores.map(({ score }) => score),
        [first, 1 - first],
      );
    }
    expect(found[0]!.scores.map(({ label }) => label)).toEqual(['LABEL_0', 'LABEL_1']);
    model.dispose();
  });

  test('names of classes come from id2label', async () => {
    expect(classNames({ id2label: { 1: 'spam', 0: 'ham' } }, 2)).toEqual(['ham', 'spam']);
    expect(classNames({}, 2)).toEqual(['LABEL_0', 'LABEL_1']);
    expect(() => classNames({ id2label: { 0: 'ham', 2: 'spam' } }, 2)).toThrow(/id2label.1: got undefined/);
    const model = new XLNetForSequenceClassification(shape, { device: 'cpu' });
    await expect(collect(classifyTexts(model, xlnet, ['x'], { labels: ['one'] }))).rejects.toThrow(/labels: got 1/);
    model.dispose();
  });
});

describe('attentionWeights', () => {
  test('of XLNet are those of the content stream', async () => {
    const model = new XLNetModel(shape, exact);
    const { ids, typeIds, tokens } = xlnet.encode(texts[1]!);
    const { attentions } = noGrad(() =>
      model.forward({ inputIds: [ids], tokenTypeIds: [typeIds], outputAttentions: true }),
    );
    const all = await numbers(attentions![1]!);
    const found = await attentionWeights(model, xlnet, texts[1]!, { layer: 1, head: 2 });
    const size = tokens.length ** 2;
    expect(found).toMatchObject({ layer: 1, head: 2, queries: tokens, keys: tokens });
    // float32 of numbers up to 1
    expectClose(found.weights, all.slice(2 * size, 3 * size), 2 ** -24);
    model.dispose();
  });

  test('of Transformer-XL have the memory in one column', async () => {
    const model = new TransformerXLModel(byteShape, exact);
    const inputIds = [bytes.encode('bytes').ids];
    const { attentions } = noGrad(() => model.forward({ inputIds, outputAttentions: true }));
    const all = await numbers(attentions![0]!);
    const { keys, queries, weights } = await attentionWeights(model, bytes, 'bytes', { layer: 0, head: 1 });
    expect([queries.join(''), keys]).toEqual(['bytes', ['memory', 'b', 'y', 't', 'e', 's']]);
    for (let query = 0; query < 5; query += 1) {
      const row = all.slice((5 + query) * 11, (6 + query) * 11);
      const memory = row.slice(0, 6).reduce((sum, weight) => sum + weight, 0);
      // float32 of numbers up to 1, six of them added
      expectClose(weights.subarray(query * 6, query * 6 + 6), [memory, ...row.slice(6)], 6 * 2 ** -24);
    }
    model.dispose();
  });

  test('a layer or head that is not there is named', async () => {
    const model = new XLNetModel({ ...shape, nLayer: 1 }, { device: 'cpu' });
    const run = (layer: number, head: number) => attentionWeights(model, xlnet, 'x', { layer, head });
    await expect(run(1, 0)).rejects.toThrow('layer: got 1, expected 0, the only layer');
    await expect(run(0, 4)).rejects.toThrow('head: got 4, expected 0 … 3 (the model has 4 heads)');
    await expect(run(-1, 0)).rejects.toMatchObject({ code: 'ERR_ARG_RANGE' });
    model.dispose();
  });
});
