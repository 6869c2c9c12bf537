/** XLNet's attention. */
import type { NativeAttentionRows } from './relativeAttention';
import type { NativeBuffer, NativeDType, OptionalBuffer } from './types';

/** A stream of queries of permutation attention. */
export interface NativeAttentionStream {
  /** 0: absent. */
  length: number;
  query?: OptionalBuffer;
  rowStride: number;
  batchStride: number;
  /** int32 [batch, length]: the current row where each query stands, -1: nowhere. Absent: query n stands at row n. */
  positions?: OptionalBuffer;
  /** Whether the key where a query stands is visible whatever the masks say. */
  seesItself: boolean;
  offset: number;
  /** [batch, length, heads, headDim] */
  out?: OptionalBuffer;
  /** [batch, heads, length] */
  logSumExp?: OptionalBuffer;
}

/** XLNet's attention of two streams over the same memory and current rows. */
export interface NativePermutationAttention {
  dtype: NativeDType;
  batch: number;
  heads: number;
  /** In [1, 256]. */
  headDim: number;
  scale: number;
  content: NativeAttentionStream;
  query: NativeAttentionStream;
  memory: NativeAttentionRows;
  current: NativeAttentionRows;
  /** [positionRows, heads, headDim]; row p is for the distance firstDistance + p. */
  position: NativeBuffer;
  positionRows: number;
  positionRowStride: number;
  firstDistance: number;
  /** Batch rows from here on read the row of the negated distance. */
  reversedFrom: number;
  /** [heads, headDim] */
  contentBias?: OptionalBuffer;
  positionBias?: OptionalBuffer;
  segmentBias?: OptionalBuffer;
  /** [2, heads, headDim] */
  segmentEmbedding?: OptionalBuffer;
  /** int32 [batch, current.length], with segmentEmbedding. */
  segments?: OptionalBuffer;
  /** int32 [batch, current.length], both or none: key c is hidden from the query at p when keyRanks[c] >= queryRanks[p]. */
  queryRanks?: OptionalBuffer;
  keyRanks?: OptionalBuffer;
  /** uint8 [maskBatch, current.length, current.length]: not 0 hides the key from the query at that row. */
  mask?: OptionalBuffer;
  /** 1 or batch. */
  maskBatch: number;
  /** uint8 [batch, current.length]: not 0 hides the key from all. */
  keyMask?: OptionalBuffer;
  /** int32 [batch]: memory rows before it are hidden from that batch row. */
  memoryStarts?: OptionalBuffer;
  /** [heads] */
  headScale?: OptionalBuffer;
  /** As in relative attention, of queries at the current rows. */
  bandUpper: number;
  bandLower: number;
  bandSegment: number;
  dropout: number;
  seed: number;
}

/** Each gradient has the strides of its operand; those of absent operands are absent. */
export interface NativePermutationAttentionGradient {
  forward: NativePermutationAttention;
  contentOutGradient?: OptionalBuffer;
  queryOutGradient?: OptionalBuffer;
  contentGradient?: OptionalBuffer;
  queryGradient?: OptionalBuffer;
  memoryKeyGradient?: OptionalBuffer;
  memoryValueGradient?: OptionalBuffer;
  currentKeyGradient: NativeBuffer;
  currentValueGradient: NativeBuffer;
  positionGradient: NativeBuffer;
  contentBiasGradient?: OptionalBuffer;
  positionBiasGradient?: OptionalBuffer;
  segmentBiasGradient?: OptionalBuffer;
  segmentEmbeddingGradient?: OptionalBuffer;
}

export interface NativePermutationAttentionProbabilities {
  /** The values and the streams' `out` are not looked at. */
  forward: NativePermutationAttention;
  /** [batch, heads, length, keys] */
  contentProbabilities?: OptionalBuffer;
  queryProbabilities?: OptionalBuffer;
}
