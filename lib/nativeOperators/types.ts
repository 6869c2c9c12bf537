/** What all parameter blocks are made of. */

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
export interface Random {
  seed: number;
  offset: number;
}
