import {
  Memory,
  noGrad,
  scope,
  Tensor,
  XLNetForQuestionAnswering,
  XLNetForSequenceClassification,
  XLNetLMHeadModel,
  XLNetModel,
  type XLNetInputs,
  type XLNetOptions,
} from '../../lib';
import { TestRandom } from '../support/random';
import { expectClose } from '../support/operators';

const cpu = { device: 'cpu' } as const;
const config: XLNetOptions = {
  vocabSize: 50,
  dModel: 24,
  nLayer: 2,
  nHead: 3,
  dInner: 40,
  memLen: null,
  initializerRange: 0.3,
  dropout: 0.1,
};
const random = new TestRandom(77);
const float64 = { ...cpu, dtype: 'float64' } as const;
const double = { ...float64, seed: 3 } as const;
const rowsOf = (rows: number, length: number) =>
  Array.from({ length: rows }, () => [...random.integers(length, 0, 49)]);

async function statesOf(model: XLNetModel, inputs: XLNetInputs): Promise<Float64Array> {
  const out = noGrad(() => model.forward(inputs));
  return (await out.lastHiddenState.data()) as Float64Array;
}

// The first of the file: what later tests leave to the garbage collector would blur the count.
test('memory returns to its baseline after dispose', async () => {
  const before = new XLNetModel(config, cpu);
  const { device } = before;
  before.dispose();
  await device.synchronize();
  const baseline = device.memory().liveBytes;
  const model = new XLNetLMHeadModel(config, cpu);
  model.train();
  const loss = scope(() => {
    const { loss } = model.forward({ inputIds: [[1, 2, 3]], targetPositions: [[1]], labels: [[4]] });
    loss!.backward();
    return loss!;
  });
  expect(Number.isFinite(await loss.item())).toBe(true);
  loss.dispose();
  model.eval();
  const out = noGrad(() => model.forward({ inputIds: [[1, 2, 3]] }));
  for (const tensor of [out.logits, out.lastHiddenState]) tensor.dispose();
  out.mems!.dispose();
  model.dispose();
  await device.synchronize();
  expect(device.memory().liveBytes).toBe(baseline);
});

describe('XLNetModel', () => {
  const model = new XLNetModel(config, double);
  afterAll(() => model.dispose());

  test('permuting the batch permutes the result', async () => {
    const ids = rowsOf(3, 9);
    const order = [2, 0, 1];
    const plain = await statesOf(model, { inputIds: ids });
    const permuted = await statesOf(model, { inputIds: order.map((row) => ids[row]!) });
    const size = 9 * 24;
    order.forEach((row, index) =>
      expectClose(permuted.slice(index * size, (index + 1) * size), plain.slice(row * size, (row + 1) * size), 1e-13),
    );
  });

  test('padding changes nothing', async () => {
    const ids = rowsOf(1, 6)[0]!;
    const alone = await statesOf(model, { inputIds: [ids], tokenTypeIds: [ids.map((_, i) => (i > 3 ? 1 : 0))] });
    const padded = await statesOf(model, {
      inputIds: [[7, 7, 7, 7, ...ids]],
      attentionMask: [[0, 0, 0, 0, 1, 1, 1, 1, 1, 1]],
      tokenTypeIds: [[3, 3, 3, 3, ...ids.map((_, i) => (i > 3 ? 1 : 0))]],
    });
    expectClose(padded.slice(4 * 24), alone, 1e-13);
    const other = await statesOf(model, {
      inputIds: [[9, 8, 7, 6, ...ids]],
      inputMask: [[1, 1, 1, 1, 0, 0, 0, 0, 0, 0]],
      tokenTypeIds: [[3, 3, 3, 3, ...ids.map((_, i) => (i > 3 ? 1 : 0))]],
    });
    expectClose(other.slice(4 * 24), padded.slice(4 * 24), 1e-15);
  });

  test('ranks, dense masks, one-hot mappings and positions are ways to say the same', async () => {
    const [length, targets] = [8, 3];
    const ids = rowsOf(2, length);
    const ranks = [
      [3, 0, 7, 1, 5, 2, 6, 4],
      [6, 2, 0, 5, 1, 7, 3, 4],
    ];
    const positions = [
      [2, 6, -1],
      [0, 5, 3],
    ];
    const permMask = ranks.map((row) => row.map((query) => row.map((key) => (key >= query ? 1 : 0))));
    const targetMapping = positions.map((row) =>
      row.map((position) => Array.from({ length }, (_, index) => (index === position ? 1 : 0))),
    );
    const fast = await statesOf(model, {
      inputIds: ids,
      queryRanks: ranks,
      keyRanks: ranks,
      targetPositions: positions,
    });
    expect(fast.length).toBe(2 * targets * 24);
    expectClose(await statesOf(model, { inputIds: ids, permMask, targetMapping }), fast, 1e-13);
    const dense = Tensor.from(targetMapping, undefined, float64);
    const mask = Tensor.from(permMask, undefined, cpu);
    expectClose(await statesOf(model, { inputIds: ids, permMask: mask, targetMapping: dense }), fast, 1e-13);
  });

  test('a general mapping mixes positions', async () => {
    const ids = rowsOf(1, 4);
    const targetMapping = [
      [
        [0.5, 0, 0.5, 0],
        [0, 0, 0, 1],
      ],
    ];
    const out = await statesOf(model, { inputIds: ids, targetMapping });
    expect(out.every(Number.isFinite)).toBe(true);
    // Two rows at one position share their query: the same states, since the query stream starts the same everywhere.
    const twice = await statesOf(model, {
      inputIds: ids,
      targetMapping: [
        [
          [0, 1, 0, 0],
          [0, 1, 0, 0],
        ],
      ],
    });
    expectClose(twice.slice(0, 24), twice.slice(24), 1e-15);
  });

  test('a target is predicted without seeing itself or what its order hides', () => {
    const length = 7;
    const ranks = [[4, 1, 6, 0, 3, 5, 2]];
    const embeddings = Tensor.from(random.normals(length * 24), [1, length, 24], { ...float64, requiresGrad: true });
    const out = model.forward({
      inputsEmbeds: embeddings,
      queryRanks: ranks,
      keyRanks: ranks,
      targetPositions: [[4]],
      useMems: false,
    });
    out.lastHiddenState.backward(Tensor.from(random.normals(24), [1, 1, 24], float64));
    return embeddings.grad!.data().then((gradient) => {
      for (let position = 0; position < length; position += 1) {
        const used = Array.from(gradient.slice(position * 24, (position + 1) * 24)).some((value) => value !== 0);
        expect([position, used]).toEqual([position, ranks[0]![position]! < 3]);
      }
    });
  });

  test('causal segments with memory equal one pass', async () => {
    const causal = new XLNetModel({ ...config, attnType: 'uni' }, double);
    const [ids] = rowsOf(1, 12);
    const whole = await statesOf(causal, { inputIds: [ids!] });
    for (const cuts of [
      [5, 12],
      [1, 2, 3, 12],
      [11, 12],
    ]) {
      let mems: Memory | undefined;
      let start = 0;
      for (const end of cuts) {
        const out = noGrad(() => causal.forward({ inputIds: [ids!.slice(start, end)], mems, useMems: true }));
        expectClose(await out.lastHiddenState.data(), whole.slice(start * 24, end * 24), 1e-12);
        mems = out.mems!;
        start = end;
      }
    }
    causal.dispose();
  });

  test('kept keys and values change nothing', async () => {
    const ids = rowsOf(2, 10);
    const head = ids.map((row) => row.slice(0, 6));
    const tail = ids.map((row) => row.slice(6));
    const first = noGrad(() => model.forward({ inputIds: head }));
    const cached = await statesOf(model, { inputIds: tail, mems: first.mems! });
    const plain = await statesOf(model, { inputIds: tail, mems: new Memory(first.mems!.hidden) });
    expectClose(cached, plain, 1e-14);
  });

  test('memory is cut to memLen, and only reuseLen rows of a segment enter it', () => {
    const short = new XLNetModel({ ...config, memLen: 5, reuseLen: 3 }, double);
    const first = noGrad(() => short.forward({ inputIds: rowsOf(1, 8) }));
    expect(first.mems!.length).toBe(3);
    const second = noGrad(() => short.forward({ inputIds: rowsOf(1, 8), mems: first.mems! }));
    expect(second.mems!.length).toBe(5);
    expect(second.mems!.layers[0]!.shape).toEqual([5, 1, 24]);
    short.train();
    expect(short.forward({ inputIds: rowsOf(1, 4) }).mems).toBeNull();
    short.dispose();
  });

  test('training draws dropout from the seed, the same twice', async () => {
    const ids = rowsOf(2, 7);
    const run = async () => {
      const trained = new XLNetModel(config, double);
      trained.train();
      const out = trained.forward({ inputIds: ids, targetPositions: [[1], [3]] });
      const data = await out.lastHiddenState.data();
      trained.dispose();
      return data;
    };
    expect(await run()).toEqual(await run());
  });

  test.each<[XLNetInputs, RegExp]>([
    [{}, /inputIds, inputsEmbeds: expected one of the two/],
    [{ inputIds: [[1, 50]] }, /inputIds\[0\]\[1\]: got 50/],
    [{ inputIds: [[1, 2]], attentionMask: [[1]] }, /attentionMask: got shape \[1, 1\], expected \[1, 2\]/],
    [{ inputIds: [[1, 2]], attentionMask: [[1, 1]], inputMask: [[0, 0]] }, /attentionMask, inputMask: got/],
    [{ inputIds: [[1, 2]], permMask: [[[1, 0]]] }, /permMask: got shape/],
    [{ inputIds: [[1, 2]], queryRanks: [[1, 0]] }, /queryRanks, keyRanks: got one of the two/],
    [{ inputIds: [[1, 2]], targetMapping: [[[1, 0, 0]]] }, /targetMapping: got shape/],
    [{ inputIds: [[1, 2]], targetMapping: [[[1, 0]]], targetPositions: [[0]] }, /targetMapping, targetPositions/],
    [{ inputIds: [[1, 2]], tokenTypeIds: [[0, 0, 0]] }, /tokenTypeIds: got shape/],
    [{ inputIds: [[1, 2]], mems: 5 as never }, /mems: got 5/],
    [{ inputIds: [[1, 2]], mems: [Tensor.zeros([3, 1, 24], float64)] }, /mems: got 1 layers, expected 2/],
    [{ inputIds: [[1, 2]], headMask: Tensor.zeros([4], float64) }, /headMask: got shape/],
    [{ inputIds: [[1, 2]], reuseLen: -1 }, /reuseLen: got -1/],
  ])('refuses %j', (inputs, message) => {
    expect(() => model.forward(inputs)).toThrow(message);
  });

  test.each<[XLNetOptions, RegExp]>([
    [{ dModel: 25 }, /config.dModel: got 25/],
    [{ nHead: 5 }, /config.nHead: got 5, expected a divisor/],
    [{ dModel: 1024, nHead: 2 }, /config.nHead: got 2, expected at least 4/],
    [{ attnType: 'both' as never }, /config.attnType/],
    [{ memLen: -1 }, /config.memLen/],
    [{ dropout: 1 }, /config.dropout/],
    [{ nlayer: 3 } as never, /config.nlayer: unknown option; did you mean 'nLayer'/],
  ])('refuses configuration %j', (options, message) => {
    expect(() => new XLNetModel({ ...config, ...options }, cpu)).toThrow(message);
  });
});

test.each(['last', 'first', 'mean', 'cls_index'] as const)('a summary of type %s learns', async (summaryType) => {
  const model = new XLNetForSequenceClassification({ ...config, summaryType, numLabels: 3 }, cpu);
  model.train();
  const { loss, logits } = model.forward({ inputIds: rowsOf(2, 5), labels: [0, 2] });
  expect(logits.shape).toEqual([2, 3]);
  loss!.backward();
  const { grad } = model.parameters().get('transformer.layer.0.ff.layer_1.weight')!;
  expect((await grad!.data()).some((value) => value !== 0)).toBe(true);
  model.dispose();
});

test('several labels at once, by floats', async () => {
  const model = new XLNetForSequenceClassification({ ...config, numLabels: 3 }, double);
  const { loss, logits } = model.forward({ inputIds: rowsOf(1, 4), labels: Tensor.from([1, 0, 1], [1, 3], float64) });
  const values = Array.from(await logits.data());
  const expected = values.map((x, i) => Math.log(1 + Math.exp(i === 1 ? x : -x))).reduce((a, b) => a + b) / 3;
  expectClose([await loss!.item()], [expected], 1e-14);
  model.dispose();
});

test('answers never start or end where pMask says no', async () => {
  const model = new XLNetForQuestionAnswering({ ...config, startNTop: 2, endNTop: 3 }, double);
  const out = noGrad(() =>
    model.forward({
      inputIds: rowsOf(2, 6),
      pMask: [
        [1, 0, 0, 0, 1, 1],
        [1, 1, 0, 0, 0, 1],
      ],
    }),
  );
  const starts = Array.from(await out.startTopIndex!.data());
  const ends = Array.from(await out.endTopIndex!.data());
  expect(starts.every((index, i) => (i < 2 ? [1, 2, 3] : [2, 3, 4]).includes(index))).toBe(true);
  expect(ends.every((index, i) => (i < 6 ? [1, 2, 3] : [2, 3, 4]).includes(index))).toBe(true);
  expect(() => model.forward({ inputIds: [[1, 2, 3]], startPositions: [3], endPositions: [0] })).toThrow(
    /startPositions\[0\]: got 3/,
  );
  expect(() => model.forward({ inputIds: [[1, 2]] })).toThrow(/got 2 tokens, expected at least/);
  model.dispose();
});
