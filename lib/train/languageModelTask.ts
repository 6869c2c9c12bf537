import { type Batch, OrderedBatches } from '../data/orderedBatches';
import type { LanguageModel } from '../models/languageModel';
import type { Memory } from '../nn/memory';
import { scope } from '../scope';
import { Tensor } from '../tensor';
import { type Evaluation, evaluate } from './evaluate';
import { sha256 } from './fingerprint';
import type { MicroBatch, TaskFactory, TrainableModel } from './task';

export interface LanguageModelData {
  /** Token ids of the training text. */
  train: ArrayLike<number>;
  /** Token ids of the held-out text. */
  valid?: ArrayLike<number>;
}

/**
 * A language model with memory learns one long text, as the original: contiguous streams, each token predicted from those before it,
 * memory carried from segment to segment and dropped at the start of a pass over the text.
 */
export function languageModelTask(
  model: LanguageModel & TrainableModel,
  { train, valid }: LanguageModelData,
): TaskFactory<Evaluation> {
  return ({ batchSize, targetLength, memoryLength, accumulation, evaluation }) => {
    const batches = new OrderedBatches(train, batchSize, targetLength);
    model.resetMemoryLength(memoryLength);
    return {
      model,
      lossUnit: { name: 'bits per character', nats: Math.LN2 },
      data: { text: sha256(Int32Array.from(train)), heldOutText: valid ? sha256(Int32Array.from(valid)) : null },
      batchAt(_, position) {
        const batch = batches.at(position);
        return (
          batch && {
            microBatches: Array.from({ length: accumulation }, (_, part) =>
              microBatch(model, batch, part, accumulation),
            ),
            tokens: batch.batch * batch.length,
            next: position + batch.length,
          }
        );
      },
      evaluate: valid ? (signal) => evaluate(model, valid, { ...evaluation, signal }) : null,
    };
  };
}

function microBatch(model: LanguageModel, batch: Batch, part: number, parts: number): MicroBatch {
  const rows = batch.batch / parts;
  const shape = [rows, batch.length];
  const [first, end] = [part * rows * batch.length, (part + 1) * rows * batch.length];
  const { device } = model;
  return {
    weight: 1 / parts,
    forward: (memory: Memory | null) =>
      scope(() => {
        const { loss, mems } = model.forward({
          inputIds: Tensor.from(batch.inputIds.subarray(first, end), shape, { device }),
          targets: Tensor.from(batch.targets.subarray(first, end), shape, { device }),
          mems: memory ?? undefined,
        });
        return { loss: loss as Tensor, mems };
      }),
  };
}
