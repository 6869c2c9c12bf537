import { noGrad } from '../autograd';
import { type ClassificationMetrics, classificationMetrics } from '../data/classificationMetrics';
import type { LabelledBatch, LabelledText } from '../data/labelledText';
import type { XLNetForSequenceClassification } from '../models/xlnetHeads';
import type { XLNetTokenizer } from '../tokenizers/xlnetTokenizer';
import { EncodedExamples } from './encodedExamples';
import type { HeldOut } from './task';

/** An evaluation of a classifier on labelled texts. */
export interface ClassificationEvaluation extends HeldOut, ClassificationMetrics {
  /** Of two classes the second's, of more the mean over all. */
  f1: number;
  /** The classes of `perClass` and `confusion`. */
  labels: readonly string[];
}

export interface ClassificationEvaluationOptions {
  tokenizer: XLNetTokenizer;
  /** Tokens of each text at most. Default 128. */
  maxLength?: number;
  /** Default 8. */
  batchSize?: number;
  signal?: AbortSignal;
}

/**
 * Loss, accuracy, precision, recall and F1 of a classifier. Its mode is put back.
 * @throws XlformersError ERR_CONFIG, ERR_DATA_FORMAT for a label that the model does not have; AbortError of the signal
 */
export function evaluateClassifier(
  model: XLNetForSequenceClassification,
  examples: readonly LabelledText[],
  { tokenizer, maxLength = 128, batchSize = 8, signal }: ClassificationEvaluationOptions,
): Promise<ClassificationEvaluation> {
  const encoded = new EncodedExamples(model, examples, {
    tokenizer,
    maxLength,
    batchSize,
    seed: null,
    name: 'examples',
  });
  return evaluateEncoded(model, encoded, 0, signal);
}

/** @param maxBatches 0: all */
export async function evaluateEncoded(
  model: XLNetForSequenceClassification,
  encoded: EncodedExamples,
  maxBatches: number,
  signal?: AbortSignal,
): Promise<ClassificationEvaluation> {
  const wasTraining = model.training;
  const { numLabels, labelNames } = model.config;
  const { batches } = encoded;
  const expected: number[] = [];
  const predicted: number[] = [];
  let sum = 0;
  model.eval();
  try {
    const count = maxBatches > 0 ? Math.min(maxBatches, batches.batchesPerEpoch) : batches.batchesPerEpoch;
    for (let index = 0; index < count; index += 1) {
      signal?.throwIfAborted();
      const batch = batches.at({ epoch: 0, index }) as LabelledBatch;
      const { loss, logits } = noGrad(() => encoded.forward(batch));
      const scores = await logits.data();
      batch.labels.forEach((label, row) => {
        expected.push(label);
        predicted.push(largest(scores.subarray(row * numLabels, (row + 1) * numLabels)));
      });
      sum += (await loss.item()) * batch.labels.length;
      loss.dispose();
      logits.dispose();
    }
  } finally {
    if (wasTraining) model.train();
  }
  const metrics = classificationMetrics(expected, predicted, numLabels);
  const f1 = numLabels === 2 ? (metrics.perClass[1]?.f1 as number) : metrics.macro.f1;
  return { loss: sum / expected.length, ...metrics, f1, labels: labelNames ?? [] };
}

function largest(scores: ArrayLike<number>): number {
  let best = 0;
  for (let index = 1; index < scores.length; index += 1) {
    if ((scores[index] as number) > (scores[best] as number)) best = index;
  }
  return best;
}
