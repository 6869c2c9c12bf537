/** What works on elements and copies them. */
import type { NativeActivation, NativeBuffer, NativeDType, OptionalBuffer, Random } from './types';

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

/** out (+)= x, each of its floating type. */
export interface NativeCast {
  dtype: NativeDType;
  outDtype: NativeDType;
  count: number;
  accumulate: boolean;
  x: NativeBuffer;
  out: NativeBuffer;
}
