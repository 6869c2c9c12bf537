/** The step of an optimizer. */
import type { NativeBuffer, NativeDType, OptionalBuffer } from './types';

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
