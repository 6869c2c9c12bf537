/** Alone in its file: what other tests leave to the garbage collector would blur the count. */
import { TransformerXLLMHeadModel, Trainer, generate, languageModelTask } from '../../lib';
import { resolveDevice } from '../../lib/device';

const config = {
  vocabSize: 50,
  cutoffs: [],
  divVal: 1,
  nLayer: 2,
  dModel: 16,
  dEmbed: 16,
  nHead: 2,
  dHead: 8,
  dInner: 32,
  memLen: 8,
  clampLen: -1,
  sameLength: false,
};
const tokens = Int32Array.from({ length: 600 }, (_, index) => (index * 7) % 50);

test('memory returns to its baseline after training, evaluation, generation and dispose', async () => {
  const device = resolveDevice('cpu');
  const baseline = device.memory().liveBytes;
  const model = new TransformerXLLMHeadModel(config, { device: 'cpu' });
  const weights = device.memory().liveBytes;
  const trainer = new Trainer(languageModelTask(model, { train: tokens, valid: tokens }), {
    batchSize: 4,
    targetLength: 8,
    memoryLength: 8,
    steps: 20,
    accumulation: 2,
  });
  await trainer.step();
  const during = device.memory().liveBytes;
  for (let step = 0; step < 3; step += 1) {
    await trainer.step();
    expect(device.memory().liveBytes).toBe(during);
  }
  await trainer.evaluate();
  const drawn: number[] = [];
  for await (const { id } of generate(model, [1, 2, 3], { maxTokens: 5 })) drawn.push(id);
  expect(drawn).toHaveLength(5);
  model.train();
  expect(device.memory().liveBytes).toBe(during);
  trainer.dispose();
  expect(device.memory().liveBytes).toBe(weights);
  model.dispose();
  expect(device.memory().liveBytes).toBe(baseline);
});
