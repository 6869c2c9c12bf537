import { noGrad } from '../autograd';
import type { XLNetBatch, XLNetSamples } from '../data/xlnetSamples';
import type { XLNetLMHeadModel } from '../models/xlnetHeads';
import type { Memory } from '../nn/memory';
import { permutationForward, type SampleReading, targetsOf } from './permutationForward';
import type { HeldOut } from './task';

/** A held-out evaluation of the permutation language model, in the orders drawn for it. */
export interface PermutationEvaluation extends HeldOut {
  perplexity: number;
  /** Tokens predicted. */
  targets: number;
}

export interface PermutationEvaluationOptions extends SampleReading {
  /** Batches to evaluate; 0: all. */
  maxBatches: number;
  signal?: AbortSignal | undefined;
}

/**
 * Loss on held-out samples, those of epoch 0, with memory carried from one to the next. The model's mode and memory length are put back.
 * @throws AbortError of the signal
 */
export async function evaluatePermutations(
  model: XLNetLMHeadModel,
  samples: XLNetSamples,
  { maxBatches, signal, ...reading }: PermutationEvaluationOptions,
): Promise<PermutationEvaluation> {
  const { training: wasTraining, memoryLength: trainedLength } = model;
  const count = maxBatches > 0 ? Math.min(maxBatches, samples.batchesPerEpoch) : samples.batchesPerEpoch;
  model.eval();
  model.resetMemoryLength(reading.memoryLength);
  let memory: Memory | null = null;
  let sum = 0;
  let targets = 0;
  try {
    for (let index = 0; index < count; index += 1) {
      signal?.throwIfAborted();
      const batch = samples.at({ epoch: 0, index }) as XLNetBatch;
      const { loss, mems } = noGrad(() => permutationForward(model, batch, memory, reading));
      (memory as Memory | null)?.dispose();
      memory = mems;
      sum += (await loss.item()) * targetsOf(batch);
      targets += targetsOf(batch);
      loss.dispose();
    }
  } finally {
    memory?.dispose();
    model.resetMemoryLength(trainedLength);
    if (wasTraining) model.train();
  }
  const loss = sum / Math.max(1, targets);
  return { loss, perplexity: Math.exp(loss), targets };
}
