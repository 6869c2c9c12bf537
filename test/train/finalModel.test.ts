/** Which weights a finished run leaves: the last, or the best on held-out data. */
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import {
  type TrainOptions,
  TransformerXLLMHeadModel,
  evaluate,
  languageModelTask,
  openSafetensors,
  trainInDirectory,
} from '../../lib';
import { TestRandom } from '../support/random';

const scratch = mkdtempSync(path.join(os.tmpdir(), 'xlformers-final-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const random = new TestRandom(4);
const train = Int32Array.from({ length: 600 }, (_, index) => (index * 7) % 50);
// Noise: the longer the model learns the pattern, the worse it does here.
const valid = random.integers(400, 0, 49);
const config: TrainOptions = {
  ...{ batchSize: 4, targetLength: 8, memoryLength: 8, steps: 40, learningRate: 2e-2 },
  evaluation: { interval: 5, batchSize: 2 },
};

function makeModel(): TransformerXLLMHeadModel {
  return new TransformerXLLMHeadModel(
    {
      ...{ vocabSize: 50, cutoffs: [], divVal: 1, nLayer: 1, dModel: 16, dEmbed: 16, nHead: 2, dHead: 8, dInner: 16 },
      ...{ dropout: 0, memLen: 8, clampLen: -1, sameLength: false },
    },
    { seed: 1, device: 'cpu' },
  );
}

async function run(directory: string, final: 'last' | 'best', resume = false) {
  const model = makeModel();
  const result = await trainInDirectory({
    task: languageModelTask(model, { train, valid }),
    directory,
    resume,
    config: { ...config, checkpoint: { final } },
    modelFiles: new Map([['vocab.txt', Buffer.from('a b c')]]),
  });
  return { model, result };
}

const hash = (file: string) => readFileSync(file).toString('base64');
const weightsIn = async (folder: string) => {
  const file = await openSafetensors(path.join(folder, 'model.safetensors'));
  const name = 'crit.out_layers.0.bias';
  const bytes = await file.read(name);
  await file.close();
  return [...bytes];
};

test("'best' leaves the weights of the lowest held-out loss in model/ and in the model", async () => {
  const directory = path.join(scratch, 'best');
  const { model, result } = await run(directory, 'best');
  expect(result.bestStep).toBeLessThan(40);
  expect(result.bestEvaluation!.loss).toBe(result.bestLoss);
  expect(result.evaluation!.loss).toBeGreaterThan(result.bestLoss!);
  const best = path.join(directory, `checkpoint-${String(result.bestStep).padStart(6, '0')}`);
  expect(await weightsIn(path.join(directory, 'model'))).toEqual(await weightsIn(best));
  const again = await evaluate(model, valid, { targetLength: 8, memoryLength: 8, batchSize: 2 });
  expect(again.loss).toBe(result.bestLoss);
  expect(readFileSync(path.join(directory, 'model', 'vocab.txt'), 'utf8')).toBe('a b c');
  model.dispose();

  // Resumed once it is over: the same result, with the evaluations read from the log.
  const before = hash(path.join(directory, 'model', 'model.safetensors'));
  const resumed = await run(directory, 'best', true);
  expect(resumed.result).toEqual(result);
  expect(hash(path.join(directory, 'model', 'model.safetensors'))).toBe(before);
  resumed.model.dispose();

  // Other weights may be asked for afterwards.
  const last = await run(directory, 'last', true);
  expect(hash(path.join(directory, 'model', 'model.safetensors'))).not.toBe(before);
  last.model.dispose();

  writeFileSync(path.join(best, 'model.safetensors'), 'damaged');
  await expect(run(directory, 'best', true)).rejects.toThrow(
    `checkpoint-${String(result.bestStep).padStart(6, '0')}: cannot be used: model.safetensors has 7 bytes`,
  );
});

test("'last', the default, leaves those of the last step", async () => {
  const directory = path.join(scratch, 'last');
  const { model } = await run(directory, 'last');
  const newest = readdirSync(directory)
    .filter((name) => name.startsWith('checkpoint-'))
    .sort()
    .at(-1)!;
  expect(newest).toBe('checkpoint-000040');
  expect(await weightsIn(path.join(directory, 'model'))).toEqual(await weightsIn(path.join(directory, newest)));
  model.dispose();
});
