import type { LabelledText } from '../data/labelledText';
import type { XLNetForSequenceClassification } from '../models/xlnetHeads';
import type { XLNetTokenizer } from '../tokenizers/xlnetTokenizer';
import { EncodedExamples, classNames } from './encodedExamples';
import { type ClassificationEvaluation, evaluateEncoded } from './evaluateClassifier';
import { sha256, tokenizerFingerprint } from './fingerprint';
import type { TaskFactory } from './task';

export interface ClassificationData {
  train: readonly LabelledText[];
  /** Held-out examples. */
  valid?: readonly LabelledText[];
  tokenizer: XLNetTokenizer;
}

/**
 * Fine-tuning on labelled texts, whose labels are the model's `config.labelNames`: examples in an order drawn anew in each epoch,
 * `targetLength` tokens of each at most, padded on the left to the longest of the micro-batch. There is no memory: examples have
 * nothing to do with each other.
 */
export function classificationTask(
  model: XLNetForSequenceClassification,
  { train, valid, tokenizer }: ClassificationData,
): TaskFactory<ClassificationEvaluation> {
  return ({ batchSize, accumulation, targetLength: maxLength, seed, evaluation }) => {
    const encoded = new EncodedExamples(model, train, { tokenizer, maxLength, batchSize, seed, name: 'train' });
    const held =
      valid &&
      new EncodedExamples(model, valid, {
        ...{ tokenizer, maxLength, batchSize: evaluation.batchSize, seed: null, name: 'valid' },
      });
    return {
      model,
      lossUnit: { name: 'nats per example', nats: 1 },
      data: {
        labels: classNames(model),
        examples: examplesHash(train),
        heldOutExamples: valid ? examplesHash(valid) : null,
        tokenizer: tokenizerFingerprint(
          tokenizer,
          encoded.encodings.map(({ ids }) => ids),
        ),
      },
      batchAt(epoch, index) {
        const batch = encoded.batches.at({ epoch, index });
        if (batch === null) return null;
        const { length } = batch.indices;
        // The last batch of an epoch may have too few examples for all micro-batches.
        const rows = Math.ceil(length / accumulation);
        const starts = Array.from({ length: Math.ceil(length / rows) }, (_, part) => part * rows);
        return {
          microBatches: starts.map((start) => {
            const indices = batch.indices.subarray(start, start + rows);
            const labels = batch.labels.subarray(start, start + rows);
            return {
              weight: indices.length / length,
              forward: () => ({ loss: encoded.forward({ indices, labels }).loss, mems: null }),
            };
          }),
          tokens: encoded.tokensOf(batch.indices),
          next: index + 1,
        };
      },
      evaluate: held ? (signal) => evaluateEncoded(model, held, evaluation.maxBatches, signal) : null,
    };
  };
}

function examplesHash(examples: readonly LabelledText[]): string {
  return sha256(...examples.map(({ text, label }) => JSON.stringify([text, label])));
}
