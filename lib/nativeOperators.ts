/**
 * The parameter blocks of `native/core/operators.h` as TypeScript sees them; that file has the formulas. Matrices are row-major, sizes
 * and strides count elements. The addon checks every field against the sizes of the buffers, whose handles are its only pointers.
 */

declare const bufferBrand: unique symbol;

/** Device memory, or a part of it: an opaque handle. */
export interface NativeBuffer {
  readonly [bufferBrand]: never;
}

/** An operand that may be absent. */
export type OptionalBuffer = NativeBuffer | null | undefined;

export type NativeDType = 'f32' | 'f64' | 'bf16' | 'f16' | 'i32' | 'u8';

/** `gelu` is the exact one (erf); `geluTanh` its approximation. */
export type NativeActivation = 'none' | 'relu' | 'gelu' | 'geluTanh' | 'silu' | 'tanh';

/** Where the random numbers of a call come from: integers in [0, 2^53). */
interface Random {
  seed: number;
  offset: number;
}

/** out[i] = value */
export interface NativeFill {
  dtype: NativeDType;
  count: number;
  value: number;
  out: NativeBuffer;
}

/** Axis k of the output is axis order[k] of the input; lower ranks are padded with leading axes of size 1. */
export interface NativePermute {
  dtype: NativeDType;
  /** Four sizes of the input. */
  size: readonly number[];
  /** 0, 1, 2, 3 in some order. */
  order: readonly number[];
  in: NativeBuffer;
  out: NativeBuffer;
}

/** out[o, r, c] = in[o, r, c], each side by its own strides. */
export interface NativeCopyStrided {
  dtype: NativeDType;
  outer: number;
  rows: number;
  columns: number;
  in: NativeBuffer;
  inOuterStride: number;
  inRowStride: number;
  out: NativeBuffer;
  outOuterStride: number;
  outRowStride: number;
}

/** uniform: [a, b); normal: mean a, standard deviation b. */
export interface NativeRandomFill extends Random {
  dtype: NativeDType;
  kind: 'uniform' | 'normal';
  count: number;
  a: number;
  b: number;
  out: NativeBuffer;
}

/** out = alpha x + beta y. `out` may be `x` or `y`. */
export interface NativeAdd {
  dtype: NativeDType;
  count: number;
  alpha: number;
  beta: number;
  x: NativeBuffer;
  y?: OptionalBuffer;
  out: NativeBuffer;
}

/** Element i is kept or dropped by mask element i % period (period 0: i). `out` may be `x`. */
export interface NativeDropout extends Random {
  dtype: NativeDType;
  count: number;
  period: number;
  /** In [0, 1). */
  probability: number;
  x: NativeBuffer;
  out: NativeBuffer;
}

/** out = activation(x). `out` may be `x`. */
export interface NativeActivationCall {
  dtype: NativeDType;
  activation: NativeActivation;
  count: number;
  x: NativeBuffer;
  out: NativeBuffer;
}

/**
 * xGradient = dropout(outGradient) activation'(x). For relu `x` is the output, the dropout's if there is one; for tanh that of the
 * activation; 'none' reads none. `xGradient` may be `outGradient`.
 */
export interface NativeActivationGradient extends Random {
  dtype: NativeDType;
  activation: NativeActivation;
  count: number;
  /** In [0, 1). */
  dropout: number;
  x?: OptionalBuffer;
  outGradient: NativeBuffer;
  xGradient: NativeBuffer;
}

/** c[rows, columns] (+)= dropout(activation(op(a) op(b) + bias)) + residual */
export interface NativeMatrixProduct extends Random {
  dtype: NativeDType;
  rows: number;
  columns: number;
  inner: number;
  /** a is [inner, rows] instead of [rows, inner]. */
  transposeA: boolean;
  /** b is [columns, inner] instead of [inner, columns]. */
  transposeB: boolean;
  /** b is what `packMatrix` made; then transposeB and bStride do not count. */
  packedB: boolean;
  accumulate: boolean;
  activation: NativeActivation;
  /** In [0, 1). */
  dropout: number;
  a: NativeBuffer;
  aStride: number;
  b: NativeBuffer;
  bStride: number;
  /** [columns] */
  bias?: OptionalBuffer;
  /** [rows, columns] */
  residual?: OptionalBuffer;
  residualStride: number;
  /** Receives op(a) op(b) + bias, with c's stride. */
  preActivation?: OptionalBuffer;
  c: NativeBuffer;
  cStride: number;
}

/** Rearranges the second operand of `matrixProduct`; `packed` has `packedMatrixElements` elements. */
export interface NativePackMatrix {
  dtype: NativeDType;
  columns: number;
  inner: number;
  transposeB: boolean;
  b: NativeBuffer;
  bStride: number;
  packed: NativeBuffer;
}

/** out[columns] (+)= the sum over rows of x. */
export interface NativeColumnSum {
  dtype: NativeDType;
  rows: number;
  columns: number;
  accumulate: boolean;
  x: NativeBuffer;
  xStride: number;
  out: NativeBuffer;
}

/** s = dropout(x) + residual; y = (s - mean) rstd weight + bias over the last axis. */
export interface NativeLayerNorm extends Random {
  dtype: NativeDType;
  rows: number;
  /** >= 1 */
  columns: number;
  epsilon: number;
  dropout: number;
  x: NativeBuffer;
  residual?: OptionalBuffer;
  weight: NativeBuffer;
  bias: NativeBuffer;
  /** Receives s, for the gradient. */
  sum?: OptionalBuffer;
  /** [rows] */
  mean?: OptionalBuffer;
  /** [rows] */
  rstd?: OptionalBuffer;
  y: NativeBuffer;
}

export interface NativeLayerNormGradient extends Random {
  dtype: NativeDType;
  rows: number;
  columns: number;
  dropout: number;
  sum: NativeBuffer;
  mean: NativeBuffer;
  rstd: NativeBuffer;
  weight: NativeBuffer;
  yGradient: NativeBuffer;
  /** The dropout mask applied to ds. */
  xGradient?: OptionalBuffer;
  /** ds */
  residualGradient?: OptionalBuffer;
  weightGradient: NativeBuffer;
  biasGradient: NativeBuffer;
}

interface EmbeddingTable {
  dtype: NativeDType;
  count: number;
  tableRows: number;
  columns: number;
  /** The id of the table's first row. */
  firstId: number;
  /** Ids outside the table give zero rows; otherwise they are an error. */
  partial: boolean;
  accumulate: boolean;
  scale: number;
  /** int32 [count] */
  ids: NativeBuffer;
}

/** out[n] (+)= scale table[ids[n] - firstId] */
export interface NativeEmbedding extends EmbeddingTable {
  table: NativeBuffer;
  out: NativeBuffer;
}

export interface NativeEmbeddingGradient extends EmbeddingTable {
  outGradient: NativeBuffer;
  tableGradient: NativeBuffer;
}

/** out[p] = [sin(t f) | cos(t f)], t = firstDistance + p within [-clamp, clamp] (clamp 0: unlimited). */
export interface NativeSinusoidPositions {
  dtype: NativeDType;
  count: number;
  /** Even. */
  columns: number;
  firstDistance: number;
  clamp: number;
  out: NativeBuffer;
}

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

/** Ids [firstId, firstId + size); the first cluster is the head. */
export interface NativeSoftmaxCluster {
  firstId: number;
  size: number;
  width: number;
  /** [size, width] */
  weight: NativeBuffer;
  /** [size] */
  bias?: OptionalBuffer;
  /** [dModel, width]; absent: width is dModel. */
  projection?: OptionalBuffer;
  weightGradient?: OptionalBuffer;
  biasGradient?: OptionalBuffer;
  projectionGradient?: OptionalBuffer;
}

interface AdaptiveSoftmax {
  dtype: NativeDType;
  rows: number;
  dModel: number;
  /** The head's columns of the tails in the opposite order, as in the original PyTorch code. */
  reversedClusters: boolean;
  /** [rows, dModel] */
  hidden: NativeBuffer;
  /** [clusters - 1, width of the head]; present when there are several clusters. */
  clusterWeight?: OptionalBuffer;
  clusterBias?: OptionalBuffer;
  clusters: readonly NativeSoftmaxCluster[];
}

export interface NativeAdaptiveSoftmaxLoss extends AdaptiveSoftmax {
  /** int32 [rows]; -100: loss 0 and no gradient. */
  labels: NativeBuffer;
  loss: NativeBuffer;
}

export interface NativeAdaptiveSoftmaxLossGradient extends AdaptiveSoftmax {
  labels: NativeBuffer;
  lossGradient: NativeBuffer;
  hiddenGradient: NativeBuffer;
  clusterWeightGradient?: OptionalBuffer;
  clusterBiasGradient?: OptionalBuffer;
}

export interface NativeAdaptiveLogSoftmax extends AdaptiveSoftmax {
  /** [rows, vocabulary] */
  logProbabilities: NativeBuffer;
}

interface CrossEntropy {
  dtype: NativeDType;
  rows: number;
  columns: number;
  logits: NativeBuffer;
  /** int32 [rows] */
  labels: NativeBuffer;
  /** [rows], written by the forward operator. */
  logSumExp: NativeBuffer;
}

export interface NativeSoftmaxCrossEntropy extends CrossEntropy {
  loss: NativeBuffer;
}

export interface NativeSoftmaxCrossEntropyGradient extends CrossEntropy {
  lossGradient: NativeBuffer;
  logitsGradient: NativeBuffer;
}

/** out[0] = sum / number of entries that are not 0; out[1] = that number. */
export interface NativeMeanNonzero {
  dtype: NativeDType;
  count: number;
  x: NativeBuffer;
  /** int32 [count]: entries with a label other than -100 count. Absent: entries that are not zero. */
  labels?: OptionalBuffer;
  out: NativeBuffer;
}

export interface NativeMeanNonzeroGradient extends NativeMeanNonzero {
  outGradient: NativeBuffer;
  xGradient: NativeBuffer;
}

/** out[i] = x[i] > 0, or x[i] < 1 when inverted; uint8. */
export interface NativeBinaryMask {
  dtype: NativeDType;
  count: number;
  inverted: boolean;
  x: NativeBuffer;
  out: NativeBuffer;
}

/** out[i] = mask[i] ? value : x[i]; mask is uint8. */
export interface NativeMaskedFill {
  dtype: NativeDType;
  count: number;
  value: number;
  x: NativeBuffer;
  mask: NativeBuffer;
  out: NativeBuffer;
}

/** The softmax of each row, and its k largest with their columns. */
export interface NativeTopProbabilities {
  dtype: NativeDType;
  rows: number;
  columns: number;
  k: number;
  scores: NativeBuffer;
  probabilities: NativeBuffer;
  /** [rows, k] */
  top: NativeBuffer;
  /** int32 [rows, k] */
  indices: NativeBuffer;
}

/** out (+)= x, each of its floating type. */
export interface NativeCast {
  dtype: NativeDType;
  outDtype: NativeDType;
  count: number;
  accumulate: boolean;
  x: NativeBuffer;
  out: NativeBuffer;
}

interface ElementLoss {
  dtype: NativeDType;
  count: number;
  x: NativeBuffer;
  target: NativeBuffer;
}

export interface NativeElementLoss extends ElementLoss {
  loss: NativeBuffer;
}

export interface NativeElementLossGradient extends ElementLoss {
  lossGradient: NativeBuffer;
  xGradient: NativeBuffer;
}

/** out = [norm / scale, clipping factor / scale, 1 when the norm is finite else 0] */
export interface NativeGlobalNorm {
  dtype: NativeDType;
  /** <= 0: no clipping. */
  maxNorm: number;
  /** > 0: the values are so many times what is meant. */
  scale: number;
  out: NativeBuffer;
  tensors: readonly { values: NativeBuffer; count: number }[];
}

export interface NativeAdamTensor {
  parameter: NativeBuffer;
  gradient: NativeBuffer;
  firstMoment: NativeBuffer;
  secondMoment: NativeBuffer;
  /** Receives the new parameter, of `copyDtype`. */
  copy?: OptionalBuffer;
  count: number;
  weightDecay: number;
}

export interface NativeAdam {
  dtype: NativeDType;
  /** bf16 or f16; of no meaning without copies. */
  copyDtype: NativeDType;
  learningRate: number;
  beta1: number;
  beta2: number;
  epsilon: number;
  /** Counts from 1. */
  step: number;
  /** AdamW. */
  decoupled: boolean;
  /** What `globalNorm` wrote. */
  clip?: OptionalBuffer;
  tensors: readonly NativeAdamTensor[];
}

/** Draws an id from each row of scores. */
export interface NativeSample extends Random {
  dtype: NativeDType;
  rows: number;
  columns: number;
  /** 0: the most probable id. */
  temperature: number;
  /** 0: off. */
  topK: number;
  /** In (0, 1]. */
  topP: number;
  /** int32 [rows, 4], in the place of seed and offset: those of each row, as words, the lower first; offsets count on. */
  streams?: OptionalBuffer;
  scores: NativeBuffer;
  /** int32 [rows] */
  ids: NativeBuffer;
  logProbability?: OptionalBuffer;
}

/** The operators: each call checks its arguments, enqueues and returns at once. */
export interface NativeOperators {
  fill(options: NativeFill): void;
  permute(options: NativePermute): void;
  copyStrided(options: NativeCopyStrided): void;
  randomFill(options: NativeRandomFill): void;
  add(options: NativeAdd): void;
  dropout(options: NativeDropout): void;
  activation(options: NativeActivationCall): void;
  activationGradient(options: NativeActivationGradient): void;
  matrixProduct(options: NativeMatrixProduct): void;
  packMatrix(options: NativePackMatrix): void;
  columnSum(options: NativeColumnSum): void;
  layerNorm(options: NativeLayerNorm): void;
  layerNormGradient(options: NativeLayerNormGradient): void;
  embedding(options: NativeEmbedding): void;
  embeddingGradient(options: NativeEmbeddingGradient): void;
  sinusoidPositions(options: NativeSinusoidPositions): void;
  relativeAttention(options: NativeRelativeAttention): void;
  relativeAttentionGradient(options: NativeRelativeAttentionGradient): void;
  relativeAttentionProbabilities(options: NativeRelativeAttentionProbabilities): void;
  memoryUpdate(options: NativeMemoryUpdate): void;
  adaptiveSoftmaxLoss(options: NativeAdaptiveSoftmaxLoss): void;
  adaptiveSoftmaxLossGradient(options: NativeAdaptiveSoftmaxLossGradient): void;
  adaptiveLogSoftmax(options: NativeAdaptiveLogSoftmax): void;
  softmaxCrossEntropy(options: NativeSoftmaxCrossEntropy): void;
  softmaxCrossEntropyGradient(options: NativeSoftmaxCrossEntropyGradient): void;
  meanNonzero(options: NativeMeanNonzero): void;
  meanNonzeroGradient(options: NativeMeanNonzeroGradient): void;
  squaredError(options: NativeElementLoss): void;
  squaredErrorGradient(options: NativeElementLossGradient): void;
  binaryCrossEntropy(options: NativeElementLoss): void;
  binaryCrossEntropyGradient(options: NativeElementLossGradient): void;
  globalNorm(options: NativeGlobalNorm): void;
  adam(options: NativeAdam): void;
  sample(options: NativeSample): void;
  permutationAttention(options: NativePermutationAttention): void;
  permutationAttentionGradient(options: NativePermutationAttentionGradient): void;
  permutationAttentionProbabilities(options: NativePermutationAttentionProbabilities): void;
  binaryMask(options: NativeBinaryMask): void;
  maskedFill(options: NativeMaskedFill): void;
  topProbabilities(options: NativeTopProbabilities): void;
  cast(options: NativeCast): void;
  ringAppend(options: NativeRingAppend): void;
}

/** @internal Their names, in the order of `native/core/operators.h`. */
export const operatorNames = [
  'fill',
  'permute',
  'copyStrided',
  'randomFill',
  'add',
  'dropout',
  'activation',
  'activationGradient',
  'matrixProduct',
  'packMatrix',
  'columnSum',
  'layerNorm',
  'layerNormGradient',
  'embedding',
  'embeddingGradient',
  'sinusoidPositions',
  'relativeAttention',
  'relativeAttentionGradient',
  'relativeAttentionProbabilities',
  'memoryUpdate',
  'adaptiveSoftmaxLoss',
  'adaptiveSoftmaxLossGradient',
  'adaptiveLogSoftmax',
  'softmaxCrossEntropy',
  'softmaxCrossEntropyGradient',
  'meanNonzero',
  'meanNonzeroGradient',
  'squaredError',
  'squaredErrorGradient',
  'binaryCrossEntropy',
  'binaryCrossEntropyGradient',
  'globalNorm',
  'adam',
  'sample',
  'permutationAttention',
  'permutationAttentionGradient',
  'permutationAttentionProbabilities',
  'binaryMask',
  'maskedFill',
  'topProbabilities',
  'cast',
  'ringAppend',
] as const satisfies readonly (keyof NativeOperators)[];
