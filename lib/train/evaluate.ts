import { noGrad } from '../autograd';
import { OrderedBatches } from '../data/orderedBatches';
import { XlformersError } from '../errors';
import type { Memory } from '../nn/memory';
import { scope } from '../scope';
import { Tensor } from '../tensor';
import type { LanguageModel } from '../models/languageModel';
import { firstNonFinite } from './finite';

export interface EvaluateOptions {
  /** Tokens per segment. */
  targetLength: number;
  /** Rows of memory, which may be more than in training. */
  memoryLength: number;
  /** Streams side by side. Default 1: the whole text with all of its context. */
  batchSize?: number;
  /** Batches to evaluate; 0: all. Default 0. */
  maxBatches?: number;
  signal?: AbortSignal;
  onProgress?: (progress: { tokens: number; totalTokens: number; loss: number }) => void;
}

export interface Evaluation {
  /** Mean negative log-likelihood, in nats per token. */
  loss: number;
  /** loss / ln 2: bits per character for byte-level text. */
  bitsPerCharacter: number;
  perplexity: number;
  tokens: number;
}

/**
 * The model's loss on a text, its memory carried through; each segment weighs as many tokens as it has.
 * The memory length, mode and memories of a running training are left as they were.
 * @throws the signal's reason when aborted; XlformersError ERR_NOT_FINITE naming the batch and the first bad parameter, ERR_TOKEN_ID
 */
export async function evaluate(
  model: LanguageModel,
  tokens: ArrayLike<number>,
  options: EvaluateOptions,
): Promise<Evaluation> {
  const { targetLength, memoryLength, batchSize = 1, maxBatches = 0, signal, onProgress } = options;
  const batches = new OrderedBatches(tokens, batchSize, targetLength);
  const trainedLength = model.memoryLength;
  const wasTraining = model.training;
  model.resetMemoryLength(memoryLength);
  model.eval();
  let mems: Memory | undefined;
  let sum = 0;
  let count = 0;
  let index = 0;
  try {
    for (const batch of batches) {
      signal?.throwIfAborted();
      const { loss, mems: next } = noGrad(() =>
        scope(() => {
          const shape = [batch.batch, batch.length];
          const { device } = model;
          const out = model.forward({
            inputIds: Tensor.from(batch.inputIds, shape, { device }),
            targets: Tensor.from(batch.targets, shape, { device }),
            mems,
          });
          return { loss: out.loss as Tensor, mems: out.mems };
        }),
      );
      mems?.dispose();
      mems = next ?? undefined;
      const value = await loss.item();
      loss.dispose();
      if (!Number.isFinite(value)) {
        const culprit = await firstNonFinite(model.parameters());
        throw new XlformersError(
          'ERR_NOT_FINITE',
          `evaluation: loss ${value} in batch ${index} (position ${batch.position})${culprit ? `; first in ${culprit}` : ''}`,
        );
      }
      const size = batch.batch * batch.length;
      sum += value * size;
      count += size;
      index += 1;
      onProgress?.({ tokens: count, totalTokens: batches.tokensPerEpoch, loss: sum / count });
      if (index === maxBatches) break;
    }
  } finally {
    mems?.dispose();
    model.resetMemoryLength(trainedLength);
    if (wasTraining) model.train();
  }
  const loss = sum / count;
  return { loss, bitsPerCharacter: loss / Math.LN2, perplexity: Math.exp(loss), tokens: count };
}
