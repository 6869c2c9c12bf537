/** Trains a small byte-level Transformer-XL on any text file from a Node script: ts-node examples/train.ts [file] [steps] */
import { mkdtempSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { TransformerXLLMHeadModel, languageModelTask, readBytes, splitCorpus, trainInDirectory } from '../lib';

async function main(): Promise<void> {
  const [file = path.join(__dirname, '..', 'README.md'), steps = '30'] = process.argv.slice(2);
  const { train, valid } = splitCorpus(await readBytes(file), { valid: 0.1, test: 0 });
  const model = new TransformerXLLMHeadModel(
    {
      vocabSize: 256,
      cutoffs: [],
      divVal: 1,
      tieProjs: [false],
      nLayer: 2,
      dModel: 64,
      dEmbed: 64,
      nHead: 2,
      dHead: 32,
      dInner: 128,
      memLen: 32,
      clampLen: -1,
      sameLength: false,
    },
    { seed: 1 },
  );
  const result = await trainInDirectory({
    task: languageModelTask(model, { train, valid }),
    directory: mkdtempSync(path.join(os.tmpdir(), 'xlformers-train-')),
    config: {
      steps: Number(steps),
      batchSize: 4,
      targetLength: 32,
      memoryLength: 32,
      learningRate: 3e-3,
      warmupSteps: 5,
    },
    onStep: ({ step, loss }) => step % 10 === 0 && console.log(`step ${step}: loss ${loss.toFixed(3)}`),
  });
  console.log(
    `${result.outcome}: ${result.evaluation?.bitsPerCharacter.toFixed(3)} bits per character on held-out text`,
  );
  model.dispose();
}

void main();
