/** Trains a small XLNet to tell labelled texts apart: ts-node examples/classify.ts [file.jsonl | file.csv] [steps] [tokenizer folder] */
import { mkdtempSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import {
  XLNetForSequenceClassification,
  XLNetTokenizer,
  classificationTask,
  labelNames,
  noGrad,
  readLabelledText,
  splitExamples,
  trainInDirectory,
} from '../lib';

const fixtures = path.join(__dirname, '..', 'test', 'fixtures', 'tokenizers', 'xlnet-small');

async function main(): Promise<void> {
  const directory = mkdtempSync(path.join(os.tmpdir(), 'xlformers-classify-'));
  const [file = weather(directory), steps = '60', tokenizerFolder = fixtures] = process.argv.slice(2);
  const { train, valid } = splitExamples(await readLabelledText(file), 0.2, 1);
  const tokenizer = await XLNetTokenizer.fromFolder(tokenizerFolder);
  // From a trained model instead: await XLNetForSequenceClassification.fromPretrained('xlnet-base-cased', { config: { labelNames } })
  const model = new XLNetForSequenceClassification(
    {
      ...{
        vocabSize: tokenizer.vocabSize,
        nLayer: 2,
        dModel: 64,
        nHead: 2,
        dInner: 128,
        padTokenId: tokenizer.padTokenId,
      },
      labelNames: labelNames(train),
    },
    { seed: 1 },
  );
  const result = await trainInDirectory({
    task: classificationTask(model, { train, valid, tokenizer }),
    directory,
    config: {
      steps: Number(steps),
      ...{ batchSize: 8, targetLength: 64, optimizer: 'adamw', weightDecay: 0.01, learningRate: 2e-3, clipNorm: 1 },
      ...{ warmupSteps: 5, schedule: 'linear', evaluation: { interval: 20 }, checkpoint: { final: 'best' } },
    },
    onEvaluation: ({ accuracy, f1 }, step) =>
      console.log(`step ${step}: held-out accuracy ${accuracy.toFixed(3)}, F1 ${f1.toFixed(3)}`),
  });
  console.log(`${result.outcome}: best at step ${result.bestStep}`);

  model.eval();
  const texts = valid.slice(0, 3).map(({ text }) => text);
  const batch = tokenizer.encodeBatch(texts, { truncation: true, maxLength: 64, device: model.device });
  const { logits } = noGrad(() => model.forward({ ...batch, useMems: false }));
  const scores = await logits.data();
  const { labelNames: names, numLabels } = model.config;
  texts.forEach((text, row) => {
    const ofText = [...scores.subarray(row * numLabels, (row + 1) * numLabels)];
    console.log(`${names?.[ofText.indexOf(Math.max(...ofText))]}: ${text.slice(0, 60)}`);
  });
  model.dispose();
}

/** Some sentences about good and bad weather at sea. */
function weather(directory: string): string {
  const subjects = ['the sea', 'the sky', 'the morning', 'the wind', 'all the day'];
  const skies = {
    calm: ['calm', 'clear', 'warm', 'bright', 'still'],
    storm: ['dark', 'wild', 'cold', 'black', 'rough'],
  };
  const lines = Object.entries(skies).flatMap(([label, words]) =>
    subjects.flatMap((subject) =>
      words.map((word, index) =>
        JSON.stringify({ text: `${subject} was ${word} and ${words[(index + 1) % 5]}`, label }),
      ),
    ),
  );
  const file = path.join(directory, 'weather.jsonl');
  writeFileSync(file, `${lines.join('\n')}\n`);
  return file;
}

void main();
