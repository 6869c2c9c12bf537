import { createHash } from 'node:crypto';
import { noGrad } from '../autograd';
import { type ClassificationMetrics, classificationMetrics } from '../data/classificationMetrics';
import { LabelledBatches, type LabelledBatch, type LabelledText } from '../data/labelledText';
import { XlformersError } from '../errors';
import type { XLNetForSequenceClassification } from '../models/xlnetHeads';
import { scope } from '../scope';
import type { Tensor } from '../tensor';
import type { XLNetTokenizer } from '../tokenizers/xlnetTokenizer';
import type { HeldOut, TaskFactory } from './task';

export interface ClassificationData {
  train: readonly LabelledText[];
  valid?: readonly LabelledText[];
  /** The classes by id, as many as the model's numLabels. */
  labels: readonly string[];
  tokenizer: XLNetTokenizer;
}

/** A held-out evaluation of a classifier. */
export interface ClassificationEvaluation extends HeldOut, ClassificationMetrics {
  /** Of two classes the second's, of more the mean over all. */
  f1: number;
}

/**
 * Fine-tuning on labelled texts: examples in an order drawn anew in each epoch, `targetLength` tokens of each at most, padded on the
 * left to the longest of the micro-batch.
 */
export function classificationTask(
  model: XLNetForSequenceClassification,
  { train, valid, labels, tokenizer }: ClassificationData,
): TaskFactory<ClassificationEvaluation> {
  if (labels.length !== model.config.numLabels) {
    throw new XlformersError(
      'ERR_CONFIG',
      `config.numLabels: the model has ${model.config.numLabels} classes, the data ${labels.length} (${labels.join(', ')})`,
    );
  }
  return ({ batchSize, accumulation, targetLength: maxLength, seed, evaluation }) => {
    const batches = new LabelledBatches(train, labels, batchSize, seed);
    const held = valid && valid.length > 0 ? new LabelledBatches(valid, labels, evaluation.batchSize, null) : null;
    const run = (batch: Pick<LabelledBatch, 'texts' | 'labels'>) => forward(model, tokenizer, batch, maxLength);
    return {
      model,
      data: { labels: [...labels], sha256: hashOf(train, tokenizer) },
      batchAt(epoch, index) {
        const batch = batches.at({ epoch, index });
        if (batch === null) return null;
        const { length } = batch.texts;
        // The last batch of an epoch may have too few examples for all micro-batches.
        const rows = Math.ceil(length / accumulation);
        const starts = Array.from({ length: Math.ceil(length / rows) }, (_, part) => part * rows);
        return {
          microBatches: starts.map((start) => {
            const texts = batch.texts.slice(start, start + rows);
            return {
              weight: texts.length / length,
              forward: () => ({
                loss: run({ texts, labels: batch.labels.slice(start, start + rows) }).loss,
                mems: null,
              }),
            };
          }),
          tokens: length * maxLength,
          next: index + 1,
        };
      },
      evaluate: held ? (signal) => evaluateClassifier(model, held, run, evaluation.maxBatches, signal) : null,
    };
  };
}

interface ClassifierOutput {
  loss: Tensor;
  /** [batch, numLabels] */
  logits: Tensor;
}

/** Enqueues a batch. */
function forward(
  model: XLNetForSequenceClassification,
  tokenizer: XLNetTokenizer,
  { texts, labels }: Pick<LabelledBatch, 'texts' | 'labels'>,
  maxLength: number,
): ClassifierOutput {
  return scope(() => {
    const batch = tokenizer.encodeBatch(texts, { truncation: true, maxLength, device: model.device });
    const { loss, logits } = model.forward({ ...batch, labels: Array.from(labels), useMems: false });
    return { loss: loss as Tensor, logits };
  });
}

async function evaluateClassifier(
  model: XLNetForSequenceClassification,
  batches: LabelledBatches,
  run: (batch: LabelledBatch) => ClassifierOutput,
  maxBatches: number,
  signal?: AbortSignal,
): Promise<ClassificationEvaluation> {
  const wasTraining = model.training;
  const classes = model.config.numLabels;
  const expected: number[] = [];
  const predicted: number[] = [];
  let sum = 0;
  model.eval();
  try {
    const count = maxBatches > 0 ? Math.min(maxBatches, batches.batchesPerEpoch) : batches.batchesPerEpoch;
    for (let index = 0; index < count; index += 1) {
      signal?.throwIfAborted();
      const batch = batches.at({ epoch: 0, index }) as LabelledBatch;
      const { loss, logits } = noGrad(() => run(batch));
      const scores = await logits.data();
      batch.labels.forEach((label, row) => {
        expected.push(label);
        predicted.push(largest(scores.subarray(row * classes, (row + 1) * classes)));
      });
      sum += (await loss.item()) * batch.labels.length;
      loss.dispose();
      logits.dispose();
    }
  } finally {
    if (wasTraining) model.train();
  }
  const metrics = classificationMetrics(expected, predicted, classes);
  const f1 = classes === 2 ? (metrics.perClass[1]?.f1 as number) : metrics.macro.f1;
  return { loss: sum / expected.length, ...metrics, f1 };
}

function largest(scores: ArrayLike<number>): number {
  let best = 0;
  for (let index = 1; index < scores.length; index += 1) {
    if ((scores[index] as number) > (scores[best] as number)) best = index;
  }
  return best;
}

/** Of the examples, and of a vocabulary by how it writes them. */
function hashOf(examples: readonly LabelledText[], tokenizer: XLNetTokenizer): string {
  const hash = createHash('sha256');
  for (const { text, label } of examples) hash.update(JSON.stringify([text, label]));
  for (let id = 0; id < tokenizer.vocabSize; id += 1) hash.update(`${tokenizer.idToToken(id)}\n`);
  return hash.digest('hex');
}
