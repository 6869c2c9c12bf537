import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import {
  Memory,
  Tensor,
  TransformerXLForSequenceClassification,
  TransformerXLLMHeadModel,
  TransformerXLModel,
  noGrad,
  type TransformerXLOptions,
} from '../../lib';
import { TestRandom } from '../support/random';

const small: TransformerXLOptions = {
  vocabSize: 40,
  cutoffs: [10, 20],
  divVal: 2,
  nLayer: 3,
  dModel: 24,
  dEmbed: 24,
  nHead: 3,
  dHead: 8,
  dInner: 32,
  memLen: 64,
  clampLen: -1,
  sameLength: false,
  initStd: 0.3,
};
const random = new TestRandom(21);
const idRows = (batch: number, length: number) =>
  Array.from({ length: batch }, () => [...random.integers(length, 0, 39)]);

/** Last hidden states of the text fed in segments of these lengths, one after the other. */
async function segmented(
  model: TransformerXLModel,
  ids: number[][],
  lengths: number[],
  first: 'zeros' | 'empty',
): Promise<number[][]> {
  let mems: Memory | 'zeros' | 'empty' = first;
  const rows: number[][] = ids.map(() => []);
  let start = 0;
  for (const length of lengths) {
    const out = noGrad(() => model.forward({ inputIds: ids.map((row) => row.slice(start, start + length)), mems }));
    const data = await out.lastHiddenState.data();
    const width = 24 * length;
    rows.forEach((row, index) => row.push(...data.slice(index * width, (index + 1) * width)));
    if (mems instanceof Memory) mems.dispose();
    mems = out.mems!;
    start += length;
  }
  return rows;
}

function expectRowsClose(actual: number[][], expected: number[][], tolerance: number): void {
  actual.forEach((row, index) =>
    row.forEach((value, position) => {
      const difference = Math.abs(value - expected[index]![position]!);
      if (!(difference <= tolerance)) throw new Error(`row ${index}, element ${position}: off by ${difference}`);
    }),
  );
}

function randomLengths(total: number): number[] {
  const lengths: number[] = [];
  for (let left = total; left > 0;) {
    const length = Math.min(left, random.integer(1, 9));
    lengths.push(length);
    left -= length;
  }
  return lengths;
}

describe.each([
  ['post-norm', {}],
  ['pre-norm, shared biases', { preLnorm: true, untieR: false }],
  ['clamped distances', { clampLen: 5 }],
] as const)('segments of any length give the result of one pass (%s)', (_, more) => {
  test.each([false, true])('training mode %s', async (training) => {
    // Dropout 0, so that the training path (no caches) is deterministic.
    const model = new TransformerXLModel(
      { ...small, ...more, dropout: 0 },
      { seed: 3, device: 'cpu', dtype: 'float64' },
    );
    if (training) model.train();
    const ids = idRows(2, 30);
    const whole = await segmented(model, ids, [30], 'empty');
    for (let round = 0; round < 3; round += 1) {
      expectRowsClose(await segmented(model, ids, randomLengths(30), 'empty'), whole, 1e-10);
    }
    model.dispose();
  });
});

test('same_length: segments agree once the memory is full', async () => {
  const model = new TransformerXLModel(
    { ...small, memLen: 6, sameLength: true, nLayer: 1 },
    { seed: 3, device: 'cpu', dtype: 'float64' },
  );
  const ids = idRows(1, 40);
  const [byOne] = await segmented(model, ids, new Array<number>(40).fill(1), 'empty');
  const [byTwo] = await segmented(model, ids, new Array<number>(20).fill(2), 'empty');
  // With one layer a query sees exactly memLen keys either way, from the point where the memory is full.
  expectRowsClose([byOne!.slice(24 * 10)], [byTwo!.slice(24 * 10)], 1e-10);
  model.dispose();
});

test('cached and uncached inference agree', async () => {
  const model = new TransformerXLModel({ ...small, memLen: 9 }, { seed: 5, device: 'cpu' });
  const ids = idRows(2, 24);
  const cached = await segmented(model, ids, [5, 1, 1, 7, 3, 7], 'zeros');
  let mems: Memory | 'zeros' = 'zeros';
  const rows: number[][] = [[], []];
  let start = 0;
  for (const length of [5, 1, 1, 7, 3, 7]) {
    // With gradients on nothing is cached.
    const out = model.forward({ inputIds: ids.map((row) => row.slice(start, start + length)), mems });
    const data = await out.lastHiddenState.data();
    rows.forEach((row, index) => row.push(...data.slice(index * 24 * length, (index + 1) * 24 * length)));
    mems = new Memory(out.mems!.hidden);
    start += length;
  }
  expectRowsClose(cached, rows, 2e-5);
  model.dispose();
});

test('changed weights are noticed by every cache', async () => {
  const model = new TransformerXLModel(small, { seed: 5, device: 'cpu' });
  const ids = idRows(1, 8);
  const run = async () => {
    const out = noGrad(() => model.forward({ inputIds: ids, mems: 'zeros' }));
    const next = noGrad(() => model.forward({ inputIds: ids, mems: out.mems! }));
    return [...(await next.lastHiddenState.data())];
  };
  await run();
  const memory = noGrad(() => model.forward({ inputIds: ids, mems: 'zeros' })).mems!;
  for (const [name, parameter] of model.parameters()) {
    if (!/qkv_net|r_net|o_net|CoreNet/.test(name)) continue;
    parameter.overwrite((await parameter.data()).map((value) => value * 1.5) as Float32Array);
  }
  const stale = [...(await noGrad(() => model.forward({ inputIds: ids, mems: memory })).lastHiddenState.data())];
  const directory = mkdtempSync(path.join(os.tmpdir(), 'xlformers-cache-'));
  await model.save(directory);
  const fresh = await TransformerXLModel.fromPretrained(directory, { device: 'cpu' });
  const again = noGrad(() => fresh.forward({ inputIds: ids, mems: new Memory(memory.hidden) }));
  expectRowsClose([stale], [[...(await again.lastHiddenState.data())]], 1e-5);
  rmSync(directory, { recursive: true });
});

test('permuting the batch permutes the result', async () => {
  const model = new TransformerXLModel(small, { seed: 6, device: 'cpu' });
  const ids = idRows(3, 7);
  const data = await noGrad(() => model.forward({ inputIds: ids })).lastHiddenState.data();
  const swapped = await noGrad(() => model.forward({ inputIds: [ids[2]!, ids[0]!, ids[1]!] })).lastHiddenState.data();
  const width = 7 * 24;
  expectRowsClose([[...swapped]], [[...data.slice(2 * width), ...data.slice(0, 2 * width)]], 1e-6);
});

test('save and load keep every output; two models of one seed are equal', async () => {
  const directory = mkdtempSync(path.join(os.tmpdir(), 'xlformers-save-'));
  const model = new TransformerXLLMHeadModel(small, { seed: 7, device: 'cpu' });
  const twin = new TransformerXLLMHeadModel(small, { seed: 7, device: 'cpu' });
  await model.save(directory);
  const loaded = await TransformerXLLMHeadModel.fromPretrained(directory, { device: 'cpu' });
  expect(loaded.config).toEqual(model.config);
  const ids = idRows(2, 6);
  const scores = async (each: TransformerXLLMHeadModel) => [
    ...(await noGrad(() => each.forward({ inputIds: ids })).predictionScores!.data()),
  ];
  expect(await scores(loaded)).toEqual(await scores(model));
  expect(await scores(twin)).toEqual(await scores(model));
  // The bare model reads the same folder.
  const bare = await TransformerXLModel.fromPretrained(directory, { device: 'cpu' });
  expect(bare.parameters().size).toBeGreaterThan(20);
  rmSync(directory, { recursive: true });
});

test('the event loop goes on while a large model runs', async () => {
  const model = new TransformerXLModel(
    {
      ...small,
      vocabSize: 256,
      cutoffs: [],
      divVal: 1,
      nLayer: 6,
      dModel: 512,
      dEmbed: 512,
      nHead: 8,
      dHead: 64,
      dInner: 2048,
      memLen: 128,
    },
    { device: 'cpu' },
  );
  const ids = Array.from({ length: 4 }, () => [...random.integers(256, 0, 255)]);
  await noGrad(() => model.forward({ inputIds: ids })).lastHiddenState.data();
  // How long the loop was held up at most, and what share of the pass enqueueing it took.
  const pass = async (): Promise<{ gap: number; enqueueing: number; total: number }> => {
    let last = performance.now();
    let gap = 0;
    const tick = () => {
      const now = performance.now();
      gap = Math.max(gap, now - last);
      last = now;
    };
    const timer = setInterval(tick, 1);
    const started = performance.now();
    const out = noGrad(() => model.forward({ inputIds: ids }));
    const enqueued = performance.now() - started;
    await out.lastHiddenState.data();
    tick();
    clearInterval(timer);
    const total = performance.now() - started;
    return { gap, enqueueing: enqueued / total, total };
  };
  // A pass that kept the loop waiting, even for one of its six layers, would do so every time; what the machine does meanwhile delays some
  // passes, not all. On a slow machine all takes longer, enqueueing too.
  const passes = [await pass()];
  const some = () => passes.some(({ gap, enqueueing, total }) => gap < Math.max(20, total / 8) && enqueueing < 0.5);
  while (!some() && passes.length < 30) passes.push(await pass());
  expect(some() || passes).toBe(true);
  model.dispose();
});

describe('wrong inputs are refused by name', () => {
  const model = new TransformerXLLMHeadModel(small, { seed: 9, device: 'cpu' });
  const ids = [[1, 2, 3]];
  const float = (shape: number[]) => Tensor.zeros(shape, { device: 'cpu' });

  test.each([
    [{}, /inputIds, inputsEmbeds: expected one/],
    [{ inputIds: [[1, 40]] }, /inputIds\[0\]\[1\]: got 40, expected an id in \[0, 40\)/],
    [{ inputIds: [[-1]] }, /got -1/],
    [{ inputIds: [[1.5]] }, /got 1.5/],
    [{ inputIds: [[NaN]] }, /got NaN/],
    [{ inputIds: [[2 ** 32 + 1]] }, /got 4294967297/],
    [{ inputIds: [['1']] }, /got '1'/],
    [{ inputIds: [[1, 2], [1]] }, /inputIds\[1\]: got 1 ids, expected 2/],
    [{ inputIds: [] }, /inputIds/],
    [{ inputIds: 5 }, /inputIds/],
    [{ inputIds: float([1, 3]) }, /inputIds: got dtype float32, expected int32/],
    [{ inputIds: Tensor.zeros([3], { device: 'cpu', dtype: 'int32' }) }, /inputIds: got shape \[3\]/],
    [{ inputsEmbeds: float([1, 3, 23]) }, /inputsEmbeds: got shape \[1, 3, 23\], expected \[\*, \*, 24\]/],
    [{ inputIds: ids, mems: [float([4, 1, 24])] }, /mems: got 1 layers, expected 3/],
    [
      { inputIds: ids, mems: [0, 1, 2].map(() => float([4, 2, 24])) },
      /mems\[0\].*got shape \[2, 4, 24\], expected \[1, 4, 24\]/,
    ],
    [{ inputIds: ids, mems: [0, 1, 2].map(() => float([4, 1, 20])) }, /mems/],
    [{ inputIds: ids, mems: 'none' }, /mems: got 'none'/],
    [{ inputIds: ids, headMask: float([2]) }, /headMask/],
    [{ inputIds: ids, labels: ids, targets: ids }, /labels, targets/],
    [{ inputIds: ids, labels: [[1, 2]] }, /labels: got shape \[1, 2\], expected \[1, 3\]/],
    [{ inputIds: ids, labels: [[1, 2, -99]] }, /labels\[0\]\[2\]: got -99/],
  ])('%#', (inputs, message) => {
    expect(() => model.forward(inputs as never)).toThrow(message);
  });

  test('ids out of range in a device tensor reject the read', async () => {
    const inputIds = Tensor.from(Int32Array.of(1, 99), [1, 2], { device: 'cpu' });
    const plain = new TransformerXLLMHeadModel({ ...small, cutoffs: [], divVal: 1 }, { device: 'cpu' });
    await expect(plain.forward({ inputIds }).lastHiddenState.data()).rejects.toMatchObject({ code: 'ERR_TOKEN_ID' });
  });

  test('a disposed model is named', () => {
    const gone = new TransformerXLLMHeadModel(small, { device: 'cpu' });
    gone.dispose();
    expect(() => gone.forward({ inputIds: ids })).toThrow(/disposed/);
  });

  test.each([
    [{ nLayer: 0 }, /config.nLayer: got 0/],
    [{ nLayer: 1.5 }, /nLayer/],
    [{ dHead: 257 }, /config.dHead: got 257, expected an integer in \[1, 256\]/],
    [{ dModel: 25 }, /config.dModel: got 25, expected an even number/],
    [{ cutoffs: [20, 10] }, /config.cutoffs\[1\]/],
    [{ cutoffs: [40] }, /config.cutoffs\[0\]/],
    [{ divVal: 0 }, /divVal/],
    [{ divVal: 30 }, /divVal/],
    [{ memLen: -1 }, /memLen/],
    [{ memLen: 2 ** 31 }, /memLen/],
    [{ clampLen: NaN }, /clampLen/],
    [{ dropout: 1 }, /dropout/],
    [{ dropout: -0.1 }, /dropout/],
    [{ nhead: 3 }, /config.nhead: unknown option; did you mean 'nHead'/],
    [{ compatibility: 'google' }, /compatibility/],
    [{ vocabSize: '5' }, /vocabSize/],
    [{ nHead: 1e6, dHead: 256 }, /nHead/],
  ])('configuration %j', (options, message) => {
    expect(() => new TransformerXLModel({ ...small, ...(options as object) }, { device: 'cpu' })).toThrow(message);
  });
});

describe('damaged model folders', () => {
  const directory = mkdtempSync(path.join(os.tmpdir(), 'xlformers-bad-'));
  afterAll(() => rmSync(directory, { recursive: true, force: true }));
  const load = () => TransformerXLLMHeadModel.fromPretrained(directory, { device: 'cpu' });

  test('are refused naming file, field or tensor', async () => {
    await expect(load()).rejects.toMatchObject({ code: 'ERR_FILE_NOT_FOUND' });
    const config = path.join(directory, 'config.json');
    writeFileSync(config, '{ nonsense');
    await expect(load()).rejects.toMatchObject({ code: 'ERR_CONFIG' });
    writeFileSync(config, JSON.stringify({ model_type: 'xlnet' }));
    await expect(load()).rejects.toThrow(/model_type: got 'xlnet'/);
    writeFileSync(config, JSON.stringify({ attn_type: 2 }));
    await expect(load()).rejects.toThrow(/attn_type: got 2/);
    const model = new TransformerXLLMHeadModel(small, { device: 'cpu' });
    await model.save(directory);
    const other = new TransformerXLLMHeadModel({ ...small, nLayer: 4, dInner: 48 }, { device: 'cpu' });
    await other.save(path.join(directory, 'other'));
    copyFileSync(path.join(directory, 'other', 'config.json'), config);
    await expect(load()).rejects.toThrow(
      /shape of transformer.layers.0.pos_ff.CoreNet.0.weight.*missing: transformer.layers.3/,
    );
  });
});

test('sequence classification needs padding to tell rows apart, and rows of ids to find it', () => {
  const model = new TransformerXLForSequenceClassification({ ...small, numLabels: 3 }, { device: 'cpu' });
  expect(() => model.forward({ inputIds: idRows(2, 4) })).toThrow(/padTokenId/);
  expect(model.forward({ inputIds: idRows(1, 4) }).logits.shape).toEqual([1, 3]);
  const padded = new TransformerXLForSequenceClassification(
    { ...small, numLabels: 3, padTokenId: 0 },
    { device: 'cpu' },
  );
  expect(() => padded.forward({ inputIds: Tensor.zeros([2, 4], { device: 'cpu', dtype: 'int32' }) })).toThrow(
    /rows of ids/,
  );
});
