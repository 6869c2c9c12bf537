/** Matrix products, normalisation and embeddings. */
import type { NativeActivation, NativeBuffer, NativeDType, OptionalBuffer, Random } from './types';

/** c[rows, columns] (+)= dropout(activation(op(a) op(b) + bias)) + residual */
export interface NativeMatrixProduct extends Random {
  dtype: NativeDType;
  /** Of c: `dtype`; or f32 where that has 16 bits, for a plain product, which is then not rounded. */
  cDtype: NativeDType;
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
