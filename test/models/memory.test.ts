/** Alone in its file: what other tests leave to the garbage collector would blur the count. */
import { TransformerXLLMHeadModel, XLNetLMHeadModel, noGrad, scope } from '../../lib';
import { resolveDevice } from '../../lib/device';

const ids = [
  [1, 5, 9, 2, 30, 7],
  [8, 0, 3, 39, 12, 4],
];
const device = resolveDevice('cpu');

async function liveBytes(): Promise<number> {
  await device.synchronize();
  return device.memory().liveBytes;
}

test('everything that a Transformer-XL made is given back by dispose', async () => {
  const baseline = await liveBytes();
  const model = new TransformerXLLMHeadModel(
    {
      ...{ vocabSize: 40, cutoffs: [10, 20], divVal: 2, nLayer: 3, dModel: 24, dEmbed: 24, nHead: 3, dHead: 8 },
      ...{ dInner: 32, memLen: 64, clampLen: -1, sameLength: false },
    },
    { seed: 8, device: 'cpu' },
  );
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
  const model = new XLNetLMHeadModel(
    { vocabSize: 40, nLayer: 2, dModel: 24, nHead: 3, dInner: 32, memLen: 16 },
    { seed: 8, device: 'cpu' },
  );
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
