/** Transformer-XL's attention and its memory. */
import type { NativeBuffer, NativeDType, OptionalBuffer, Random } from './types';

/** Keys and values of a segment: row j of batch b starts at b batchStride + j rowStride. */
export interface NativeAttentionRows {
  key?: OptionalBuffer;
  value?: OptionalBuffer;
  /** 0: absent. */
  length: number;
  rowStride: number;
  batchStride: number;
  /** int32 [1], for memory without gradient: a ring, whose row j lies where row (ringHead + j) mod length would. */
  ringHead?: OptionalBuffer;
}

/** softmax_j(scale ((q_i + u)·k_j + (q_i + v)·r_{M+i-j})) v_j over memory and current rows. */
export interface NativeRelativeAttention extends Random {
  dtype: NativeDType;
  batch: number;
  heads: number;
  /** In [1, 256]. */
  headDim: number;
  queryLength: number;
  scale: number;
  query: NativeBuffer;
  queryRowStride: number;
  queryBatchStride: number;
  memory: NativeAttentionRows;
  current: NativeAttentionRows;
  /** [positionRows, heads, headDim]; row p is for the distance firstDistance + p. Must cover every visible pair. */
  position: NativeBuffer;
  positionRows: number;
  positionRowStride: number;
  firstDistance: number;
  /** [heads, headDim] */
  contentBias?: OptionalBuffer;
  /** [heads, headDim] */
  positionBias?: OptionalBuffer;
  /** [heads] */
  headScale?: OptionalBuffer;
  /** j <= M + i + bandUpper is visible, */
  bandUpper: number;
  /** from floor(i / bandSegment) bandSegment + bandLower on. Every query must see a key. */
  bandLower: number;
  bandSegment: number;
  /** int32 [batch]: memory rows before it are hidden from that batch row. */
  memoryStarts?: OptionalBuffer;
  dropout: number;
  /** [batch, queryLength, heads, headDim] */
  out: NativeBuffer;
  /** [batch, heads, queryLength] */
  logSumExp: NativeBuffer;
}

/** Each gradient has the strides of its operand; those of absent operands are absent. */
export interface NativeRelativeAttentionGradient {
  forward: NativeRelativeAttention;
  outGradient: NativeBuffer;
  queryGradient: NativeBuffer;
  memoryKeyGradient?: OptionalBuffer;
  memoryValueGradient?: OptionalBuffer;
  currentKeyGradient?: OptionalBuffer;
  currentValueGradient?: OptionalBuffer;
  positionGradient: NativeBuffer;
  contentBiasGradient?: OptionalBuffer;
  positionBiasGradient?: OptionalBuffer;
}

export interface NativeRelativeAttentionProbabilities {
  /** Its `out` and the values are not looked at. */
  forward: Omit<NativeRelativeAttention, 'out'> & { out?: OptionalBuffer };
  /** [batch, heads, queryLength, keys] */
  probabilities: NativeBuffer;
}

/** out[b] = the last outLength rows of [old[b]; current[b]] */
export interface NativeMemoryUpdate {
  dtype: NativeDType;
  batch: number;
  columns: number;
  oldRows?: OptionalBuffer;
  oldLength: number;
  oldRowStride: number;
  oldBatchStride: number;
  currentRows?: OptionalBuffer;
  currentLength: number;
  currentRowStride: number;
  currentBatchStride: number;
  out: NativeBuffer;
  outLength: number;
}

/** Row (head + i) mod length of ring[b] = rows[b, i], i < count; then, with advance, head = (head + count) mod length. */
export interface NativeRingRows {
  columns: number;
  /** [batch, count, columns] by strides */
  rows?: OptionalBuffer;
  rowStride: number;
  batchStride: number;
  /** [batch, length, columns] */
  ring: NativeBuffer;
}

export interface NativeRingAppend {
  dtype: NativeDType;
  batch: number;
  /** At most length. */
  count: number;
  length: number;
  /** One or more, which share a head. */
  rings: NativeRingRows[];
  /** int32 [1] */
  head: NativeBuffer;
  advance: boolean;
}
