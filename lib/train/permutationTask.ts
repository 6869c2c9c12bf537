import { createHash } from 'node:crypto';
import { noGrad } from '../autograd';
import type { SentenceCorpus } from '../data/sentences';
import { type XLNetBatch, type XLNetSampleConfig, XLNetSamples } from '../data/xlnetSamples';
import { XlformersError } from '../errors';
import type { XLNetLMHeadModel } from '../models/xlnetHeads';
import type { Memory } from '../nn/memory';
import { scope } from '../scope';
import { Tensor } from '../tensor';
import type { HeldOut, MicroBatch, TaskFactory } from './task';

/** Options of the samples that the training configuration does not have: the rest are batchSize, accumulation, targetLength and seed. */
export type PermutationOptions = Partial<
  Omit<XLNetSampleConfig, 'batchSize' | 'accumulation' | 'seqLen' | 'biData' | 'seed'>
>;

export interface PermutationData {
  train: SentenceCorpus;
  valid?: SentenceCorpus;
  /** By token id, not 0 where a word begins (`startPieces`). */
  startPieces: Uint8Array;
  /** Default: half of each sample is reused, permuted as one, and a sixth of its tokens are predicted. */
  options?: PermutationOptions;
}

/** A held-out evaluation of the permutation language model, in the orders drawn for it. */
export interface PermutationEvaluation extends HeldOut {
  perplexity: number;
  /** Tokens predicted. */
  targets: number;
}

/** What a loss leaves out. */
const ignoredTarget = -100;

/**
 * XLNet's pretraining (Yang et al. 2019, section 2): both streams over samples of two segments, a part of the tokens predicted in
 * random factorization orders, the memory of the reused part carried from sample to sample. With `biData` of the model half of
 * each micro-batch reads backwards.
 */
export function permutationTask(model: XLNetLMHeadModel, data: PermutationData): TaskFactory<PermutationEvaluation> {
  return ({ batchSize, accumulation, targetLength: seqLen, memoryLength, seed, evaluation }) => {
    const reuseLen = data.options?.reuseLen ?? Math.floor(seqLen / 2);
    const shared = {
      permSize: reuseLen,
      numPredict: Math.floor(seqLen / 6),
      ...data.options,
      ...{ seqLen, reuseLen, seed, biData: model.config.biData },
    };
    if (evaluation.targetLength !== seqLen) {
      throw new XlformersError(
        'ERR_CONFIG',
        `train.evaluation.targetLength: got ${evaluation.targetLength}, expected targetLength ${seqLen}: XLNet's samples are made for one length`,
      );
    }
    const samples = new XLNetSamples(data.train, data.startPieces, { ...shared, batchSize, accumulation });
    const held =
      data.valid && new XLNetSamples(data.valid, data.startPieces, { ...shared, batchSize: evaluation.batchSize });
    return {
      model,
      data: { ...samples.config, sha256: hashOf(data.train) },
      batchAt(epoch, index) {
        const batch = samples.at({ epoch, index });
        return (
          batch && {
            microBatches: Array.from({ length: accumulation }, (_, part) => ({
              weight: 1 / accumulation,
              forward: (memory: Memory | null) =>
                forward(model, partOf(batch, part, accumulation), memory, { reuseLen, memoryLength }),
            })),
            tokens: batch.batch * batch.length,
            next: index + 1,
          }
        );
      },
      evaluate: held ? (signal) => evaluatePermutations(model, held, { ...evaluation, reuseLen, signal }) : null,
    };
  };
}

interface MemoryLengths {
  /** Tokens of each sample that enter the memory. */
  reuseLen: number;
  /** Rows of memory. */
  memoryLength: number;
}

/** Enqueues both streams over some rows. */
function forward(
  model: XLNetLMHeadModel,
  batch: XLNetBatch,
  memory: Memory | null,
  { reuseLen, memoryLength }: MemoryLengths,
): ReturnType<MicroBatch['forward']> {
  const { device } = model;
  model.resetMemoryLength(memoryLength);
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
    });
    return { loss: loss as Tensor, mems };
  });
}

interface PermutationEvaluationOptions extends MemoryLengths {
  /** Batches to evaluate; 0: all. */
  maxBatches: number;
  signal?: AbortSignal | undefined;
}

/** @throws AbortError of the signal */
async function evaluatePermutations(
  model: XLNetLMHeadModel,
  samples: XLNetSamples,
  { maxBatches, signal, ...lengths }: PermutationEvaluationOptions,
): Promise<PermutationEvaluation> {
  const { training: wasTraining, memoryLength: trainedLength } = model;
  model.eval();
  let memory: Memory | null = null;
  let sum = 0;
  let targets = 0;
  try {
    const count = maxBatches > 0 ? Math.min(maxBatches, samples.batchesPerEpoch) : samples.batchesPerEpoch;
    for (let index = 0; index < count; index += 1) {
      signal?.throwIfAborted();
      const batch = samples.at({ epoch: 0, index }) as XLNetBatch;
      const { loss, mems } = noGrad(() => forward(model, batch, memory, lengths));
      (memory as Memory | null)?.dispose();
      memory = mems;
      const size = batch.targets.reduce((total, target) => total + (target === ignoredTarget ? 0 : 1), 0);
      sum += (await loss.item()) * size;
      targets += size;
      loss.dispose();
    }
  } finally {
    memory?.dispose();
    model.resetMemoryLength(trainedLength);
    if (wasTraining) model.train();
  }
  const loss = sum / targets;
  return { loss, perplexity: Math.exp(loss), targets };
}

/** Some rows of a batch, as views. */
function partOf(batch: XLNetBatch, part: number, parts: number): XLNetBatch {
  const share = (values: Int32Array) =>
    values.subarray((part * values.length) / parts, ((part + 1) * values.length) / parts);
  return {
    ...batch,
    batch: batch.batch / parts,
    inputIds: share(batch.inputIds),
    segments: share(batch.segments),
    queryRanks: share(batch.queryRanks),
    keyRanks: share(batch.keyRanks),
    targetPositions: share(batch.targetPositions),
    targets: share(batch.targets),
  };
}

function hashOf({ tokens, sentences }: SentenceCorpus): string {
  return createHash('sha256').update(tokens).update(sentences).digest('hex');
}
