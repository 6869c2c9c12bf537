import type { XLNetBatch } from '../data/xlnetSamples';
import type { XLNetLMHeadModel } from '../models/xlnetHeads';
import type { Memory } from '../nn/memory';
import { scope } from '../scope';
import { Tensor } from '../tensor';

export interface SampleReading {
  /** The second half of the rows is reversed. */
  biData: boolean;
  /** Tokens of each sample that enter the memory. */
  reuseLen: number;
  /** Rows of memory. */
  memoryLength: number;
}

/** Enqueues both streams over a batch: the mean loss of its targets, and the memory for the same rows of the next batch. */
export function permutationForward(
  model: XLNetLMHeadModel,
  batch: XLNetBatch,
  memory: Memory | null,
  { biData, reuseLen, memoryLength }: SampleReading,
): { loss: Tensor; mems: Memory | null } {
  const { device } = model;
  return scope(() => {
    const rows = (values: Int32Array) => Tensor.from(values, [batch.batch, values.length / batch.batch], { device });
    const { loss, mems } = model.forward({
      inputIds: rows(batch.inputIds),
      tokenTypeIds: rows(batch.segments),
      queryRanks: rows(batch.queryRanks),
      keyRanks: rows(batch.keyRanks),
      targetPositions: rows(batch.targetPositions),
      labels: rows(batch.targets),
      mems: memory ?? undefined,
      useMems: memoryLength > 0,
      reuseLen,
      biData,
    });
    return { loss: loss as Tensor, mems };
  });
}

/** Tokens that a batch predicts; the rest of its target rows is padding. */
export function targetsOf({ targetPositions }: XLNetBatch): number {
  return targetPositions.reduce((count, position) => count + (position >= 0 ? 1 : 0), 0);
}
