import { type SentenceCorpus, sentenceCorpus } from '../data/sentences';
import { startPieces } from '../data/spanMasking';
import { type XLNetBatch, type XLNetSampleConfig, XLNetSamples } from '../data/xlnetSamples';
import { XlformersError } from '../errors';
import type { XLNetLMHeadModel } from '../models/xlnetHeads';
import type { Memory } from '../nn/memory';
import type { XLNetTokenizer } from '../tokenizers/xlnetTokenizer';
import { evaluatePermutations, type PermutationEvaluation } from './evaluatePermutations';
import { sha256, tokenizerFingerprint } from './fingerprint';
import { permutationForward, targetsOf } from './permutationForward';
import type { TaskFactory } from './task';
import { piecesOf, requireVocabulary } from './vocabulary';

/**
 * Options of the samples. The others come from the training configuration (batchSize, accumulation, seed, targetLength as seqLen) and
 * the tokenizer (sepId, clsId).
 */
export type PermutationOptions = Partial<
  Omit<XLNetSampleConfig, 'batchSize' | 'accumulation' | 'seed' | 'seqLen' | 'sepId' | 'clsId'>
>;

export interface PermutationData {
  /** A sentence on each line, blank lines between documents. */
  train: string;
  /** Held-out text of the same form. */
  valid?: string;
  tokenizer: XLNetTokenizer;
  /** Default: half of each sample is reused, permuted as one, and a sixth of its tokens are predicted. */
  options?: PermutationOptions;
}

/**
 * XLNet's pretraining (Yang et al. 2019, section 2): both streams over samples of two segments, a part of the tokens predicted in
 * random factorization orders, the memory of the reused part carried from sample to sample. With `biData` half of each micro-batch
 * reads backwards.
 */
export function permutationTask(
  model: XLNetLMHeadModel,
  { train, valid, tokenizer, options = {} }: PermutationData,
): TaskFactory<PermutationEvaluation> {
  requireVocabulary(model.config, tokenizer);
  return ({ batchSize, accumulation, targetLength: seqLen, memoryLength, seed, evaluation }) => {
    if (evaluation.targetLength !== seqLen) {
      throw new XlformersError(
        'ERR_CONFIG',
        `train.evaluation.targetLength: got ${evaluation.targetLength}, expected targetLength ${seqLen}: XLNet's samples are made for one length`,
      );
    }
    const reuseLen = options.reuseLen ?? Math.floor(seqLen / 2);
    const { sepTokenId: sepId, clsTokenId: clsId } = tokenizer;
    const biData = options.biData ?? model.config.biData;
    const shared = {
      ...{ permSize: reuseLen, numPredict: Math.floor(seqLen / 6), ...options },
      ...{ seqLen, reuseLen, seed, sepId, clsId, biData },
    };
    const starts = startPieces(piecesOf(tokenizer));
    const corpus = corpusOf(train, tokenizer);
    const samples = new XLNetSamples(corpus, starts, { ...shared, batchSize, accumulation }, 'training text');
    const held =
      valid === undefined
        ? null
        : new XLNetSamples(
            corpusOf(valid, tokenizer),
            starts,
            { ...shared, batchSize: evaluation.batchSize },
            'held-out text',
          );
    model.resetMemoryLength(memoryLength);
    return {
      model,
      lossUnit: { name: 'nats per predicted token', nats: 1 },
      data: {
        text: sha256(train),
        heldOutText: valid === undefined ? null : sha256(valid),
        tokenizer: tokenizerFingerprint(tokenizer, [corpus.tokens]),
        ...samples.config,
      },
      batchAt(epoch, index) {
        const batch = samples.at({ epoch, index });
        if (batch === null) return null;
        const parts = Array.from({ length: accumulation }, (_, part) => partOf(batch, part, accumulation));
        // Where <sep> or <cls> was chosen there is no target: the parts may have unlike numbers.
        const total = targetsOf(batch);
        return {
          microBatches: parts.map((part) => ({
            weight: total === 0 ? 1 / accumulation : targetsOf(part) / total,
            forward: (memory: Memory | null) =>
              permutationForward(model, part, memory, { biData, reuseLen, memoryLength }),
          })),
          tokens: batch.batch * batch.length,
          next: index + 1,
        };
      },
      evaluate: held && ((signal) => evaluatePermutations(model, held, { ...evaluation, biData, reuseLen, signal })),
    };
  };
}

function corpusOf(text: string, tokenizer: XLNetTokenizer): SentenceCorpus {
  const encode = (line: string) => tokenizer.encode(line, { addSpecialTokens: false }).ids;
  return sentenceCorpus(text, encode, tokenizer.tokenToId('<eod>') ?? null);
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
