/** What `summarizeModel` says of a folder is what the model turns out to have and to take. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import {
  convertCheckpoint,
  noGrad,
  openWeights,
  type PretrainedModel,
  scope,
  summarizeModel,
  TransformerXLForSequenceClassification,
  TransformerXLLMHeadModel,
  TransformerXLModel,
  type TransformerXLOptions,
  writeSafetensors,
  XLNetForSequenceClassification,
  XLNetLMHeadModel,
  XLNetModel,
  type XLNetOptions,
} from '../../lib';
import { resolveDevice } from '../../lib/device';
import { fixturePath } from '../support/fixtures';

const folder = mkdtempSync(path.join(os.tmpdir(), 'xlformers-summary-'));
const device = resolveDevice('cpu');
afterAll(() => rmSync(folder, { recursive: true }));

test.each([
  ['txl-lm-div1', TransformerXLLMHeadModel],
  ['txl-lm-div2', TransformerXLLMHeadModel],
  ['txl-lm-div4', TransformerXLLMHeadModel],
  ['txl-lm-embed-proj', TransformerXLLMHeadModel],
  ['txl-lm-untied', TransformerXLLMHeadModel],
  ['txl-memory', TransformerXLModel],
  ['txl-classify', TransformerXLForSequenceClassification],
  ['xlnet-plain', XLNetModel],
  ['xlnet-lm-plain', XLNetLMHeadModel],
  ['xlnet-classify', XLNetForSequenceClassification],
])('%s: tied weights count once', async (name, Model) => {
  const directory = fixturePath('hf', name);
  const model: PretrainedModel = await Model.fromPretrained(directory, { device });
  const sizes = [...model.parameters().values()].map(({ size }) => size);
  model.dispose();
  const summary = await summarizeModel(directory);
  const parameters = sizes.reduce((sum, size) => sum + size, 0);
  expect(summary.parameters).toBe(parameters);
  const { embedding, layers, head } = summary.groups;
  expect(embedding + layers + head).toBe(parameters);
  expect(Math.min(embedding, layers)).toBeGreaterThan(0);
  expect(head > 0).toBe(/lm|classify/.test(name));
  expect(summary.memory.weightBytes).toBe(4 * parameters);
});

test('types and bytes as stored, in any kind of file', async () => {
  const source = fixturePath('hf', 'xlnet-lm-plain');
  const plain = await summarizeModel(source);
  const target = path.join(folder, 'half');
  await convertCheckpoint(source, target, { format: 'bin', dtype: 'bfloat16' });
  const half = await summarizeModel(target);
  expect(half).toMatchObject({ architecture: 'XLNetLMHeadModel', file: path.join(target, 'pytorch_model.bin') });
  expect(half.dtypes).toEqual({ BF16: plain.dtypes.F32 });
  expect(half.storedBytes).toBe(plain.storedBytes / 2);
  expect([half.parameters, half.memory]).toEqual([plain.parameters, plain.memory]);
});

test('shards count together', async () => {
  const source = fixturePath('hf', 'xlnet-lm-plain');
  const target = path.join(folder, 'shards');
  await convertCheckpoint(source, target);
  const weights = await openWeights(source);
  const names = [...weights.tensors.keys()];
  const weight_map: Record<string, string> = {};
  for (const [part, list] of [names.slice(0, 5), names.slice(5)].entries()) {
    const file = `model-${part}.safetensors`;
    const entries = [];
    for (const name of list) {
      weight_map[name] = file;
      const { dtype, shape } = weights.tensors.get(name)!;
      entries.push({ name, dtype, shape, data: await weights.read(name) });
    }
    await writeSafetensors(path.join(target, file), entries);
  }
  await weights.close();
  rmSync(path.join(target, 'model.safetensors'));
  const index = path.join(target, 'model.safetensors.index.json');
  writeFileSync(index, JSON.stringify({ weight_map }));
  expect(await summarizeModel(target)).toEqual({ ...(await summarizeModel(source)), directory: target, file: index });
});

const xlnetShape: XLNetOptions = { vocabSize: 3000, nLayer: 4, dModel: 256, nHead: 4, dInner: 1024, memLen: null };
const shape: TransformerXLOptions = {
  ...{ vocabSize: 256, cutoffs: [], divVal: 1, tieProjs: [false], nLayer: 4, dModel: 256, dEmbed: 256, nHead: 4 },
  ...{ dHead: 64, dInner: 1024, memLen: 64, sameLength: false },
};
const ids = (vocabSize: number) =>
  Array.from({ length: 8 }, (_, row) => Array.from({ length: 256 }, (_unused, i) => (7 * i + row) % vocabSize));

test.each([
  ['XLNet', () => new XLNetLMHeadModel(xlnetShape, { device })],
  ['Transformer-XL', () => new TransformerXLLMHeadModel(shape, { device })],
])('memory that a pass of %s takes', async (name, make) => {
  const model = make();
  const directory = path.join(folder, name);
  await model.save(directory);
  model.dispose();
  const { memory } = await summarizeModel(directory, { batchSize: 8, length: 256 });
  const peakOf = async (run: (fresh: typeof model) => void) => {
    await device.synchronize();
    const before = device.memory().liveBytes;
    const fresh = make();
    device.resetPeak();
    run(fresh);
    await device.synchronize();
    // Scratch memory depends on the number of threads.
    const { peakBytes, peakWorkspaceBytes } = device.memory();
    fresh.dispose();
    return peakBytes - peakWorkspaceBytes - before;
  };
  const inputIds = ids(model.config.vocabSize);
  const inference = await peakOf((fresh) =>
    noGrad(() => scope(() => void fresh.forward({ inputIds, useMems: false }))),
  );
  // The allocator rounds sizes up.
  expect(memory.inferenceBytes / inference).toBeGreaterThan(0.85);
  expect(memory.inferenceBytes / inference).toBeLessThan(1.15);
  const training = await peakOf((fresh) => {
    fresh.train();
    const out = fresh.forward(
      fresh instanceof XLNetLMHeadModel ? { inputIds, labels: inputIds } : { inputIds, targets: inputIds },
    );
    out.loss?.backward();
    for (const tensor of [out.loss, out.lastHiddenState, out.mems]) tensor?.dispose();
  });
  // The optimizer's two moments are not there yet.
  const estimate = memory.trainingBytes - 2 * memory.weightBytes;
  expect(estimate / training).toBeGreaterThan(0.8);
  expect(estimate / training).toBeLessThan(1.25);
});

test('memory of a stream, and what makes no model', async () => {
  const { memory, config } = await summarizeModel(fixturePath('hf', 'txl-memory'));
  const [layers, length, width] = [config.n_layer, config.mem_len, config.d_model] as number[];
  expect(memory.streamBytes).toBe(4 * layers! * length! * width!);
  expect((await summarizeModel(fixturePath('hf', 'xlnet-plain'))).memory.streamBytes).toBeNull();
  const odd = path.join(folder, 'odd');
  await convertCheckpoint(fixturePath('hf', 'xlnet-plain'), odd);
  writeFileSync(path.join(odd, 'config.json'), '{"model_type": "bert"}');
  await expect(summarizeModel(odd)).rejects.toThrow(/model_type 'bert', expected 'transfo-xl' or 'xlnet'/);
  await expect(summarizeModel(odd, { length: 0 })).rejects.toThrow(/length: got 0/);
});
