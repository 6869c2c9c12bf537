/** Alone in its file: what other tests leave to the garbage collector would blur the count. */
import { TransformerXLLMHeadModel, TransformerXLModel, XLNetLMHeadModel, XLNetModel, noGrad, scope } from '../../lib';
import { resolveDevice } from '../../lib/device';

const ids = [
  [1, 5, 9, 2, 30, 7],
  [8, 0, 3, 39, 12, 4],
];
const device = resolveDevice('cpu');
const shape = {
  ...{ vocabSize: 40, cutoffs: [10, 20], divVal: 2, nLayer: 3, dModel: 24, dEmbed: 24, nHead: 3, dHead: 8 },
  ...{ dInner: 32, memLen: 64, clampLen: -1, sameLength: false },
};
const xlnetShape = { vocabSize: 40, nLayer: 2, dModel: 24, nHead: 3, dInner: 32, memLen: 16 };

async function liveBytes(): Promise<number> {
  await device.synchronize();
  return device.memory().liveBytes;
}

test('everything that a Transformer-XL made is given back by dispose', async () => {
  const baseline = await liveBytes();
  const model = new TransformerXLLMHeadModel(shape, { seed: 8, device: 'cpu' });
  const all: { dispose(): void }[] = [];
  for (const inputs of [{ inputIds: ids }, { inputIds: ids, labels: ids }, { inputIds: ids, targets: ids }]) {
    const out = model.forward({ ...inputs, outputHiddenStates: true, outputAttentions: true });
    if (out.loss) out.loss.backward();
    all.push(out.lastHiddenState, out.mems!, ...out.hiddenStates!, ...out.attentions!);
    all.push(...[out.loss, out.losses, out.predictionScores].filter((tensor) => tensor !== null));
    noGrad(() => scope(() => void model.forward({ inputIds: ids, mems: out.mems! })));
  }
  for (const each of all) each.dispose();
  model.dispose();
  expect(await liveBytes()).toBe(baseline);
});

test('everything that an XLNet made is given back by dispose', async () => {
  const baseline = await liveBytes();
  const model = new XLNetLMHeadModel(xlnetShape, { seed: 8, device: 'cpu' });
  const all: { dispose(): void }[] = [];
  const targetPositions = [
    [1, 3],
    [0, 5],
  ];
  const labels = [
    [5, 2],
    [8, 4],
  ];
  for (const inputs of [{ inputIds: ids }, { inputIds: ids, targetPositions, labels }]) {
    const out = model.forward({ ...inputs, useMems: true, outputHiddenStates: true, outputAttentions: true });
    if (out.loss) out.loss.backward();
    const lists = [out.hiddenStates, out.queryHiddenStates, out.attentions, out.queryAttentions];
    all.push(out.mems!, out.lastHiddenState, out.logits, ...lists.flatMap((list) => list ?? []));
    if (out.loss) all.push(out.loss);
    noGrad(() => scope(() => void model.forward({ inputIds: ids, mems: out.mems! })));
  }
  for (const each of all) each.dispose();
  model.dispose();
  expect(await liveBytes()).toBe(baseline);
});

test.each([
  ['XLNet', (layers: number) => new XLNetModel({ ...xlnetShape, nLayer: layers }, { device: 'cpu' })],
  ['Transformer-XL', (layers: number) => new TransformerXLModel({ ...shape, nLayer: layers }, { device: 'cpu' })],
] as const)('an inference pass of %s holds the values of one layer at a time', async (_, make) => {
  const peak = async (layers: number): Promise<number> => {
    const model = make(layers);
    const run = () => noGrad(() => scope(() => void model.forward({ inputIds: ids, useMems: false })));
    // Packed weights are made by the first pass.
    run();
    const baseline = await liveBytes();
    device.resetPeak();
    run();
    await device.synchronize();
    const { peakBytes, peakWorkspaceBytes } = device.memory();
    model.dispose();
    return peakBytes - peakWorkspaceBytes - baseline;
  };
  expect(await peak(6)).toBe(await peak(2));
});
