import type { NativeDType } from './native';
import { fromBfloat16, fromFloat16, toBfloat16, toFloat16 } from './shortFloat';

/**
 * Element types of tensors. `float64` serves tests and gradient checks; ids and labels are `int32`. CUDA devices compute in `bfloat16`
 * and `float16`; the CPU stores them and casts.
 */
export type DType = FloatDType | 'int32' | 'uint8';

export type FloatDType = 'float32' | 'float64' | ShortFloatDType;

/** The types of 16 bits. */
export type ShortFloatDType = 'bfloat16' | 'float16';

export type TypedArray = Float32Array | Float64Array | Int32Array | Uint8Array;

/** As tensors lie in memory: JavaScript has no arrays of 16-bit floats, whose bits are kept in integers. */
export type StoredArray = TypedArray | Uint16Array;

interface DTypeDetail {
  native: NativeDType;
  bytes: number;
  array: new (buffer: ArrayBuffer, byteOffset?: number, length?: number) => StoredArray;
}

const details: Record<DType, DTypeDetail> = {
  float32: { native: 'f32', bytes: 4, array: Float32Array },
  float64: { native: 'f64', bytes: 8, array: Float64Array },
  bfloat16: { native: 'bf16', bytes: 2, array: Uint16Array },
  float16: { native: 'f16', bytes: 2, array: Uint16Array },
  int32: { native: 'i32', bytes: 4, array: Int32Array },
  uint8: { native: 'u8', bytes: 1, array: Uint8Array },
};

/** From and to numbers, for the types that JavaScript has no arrays of. */
const shortFloats: Record<
  ShortFloatDType,
  {
    to: (values: ArrayLike<number>) => Uint16Array<ArrayBuffer>;
    from: (bits: Uint16Array) => Float32Array<ArrayBuffer>;
  }
> = {
  bfloat16: { to: toBfloat16, from: fromBfloat16 },
  float16: { to: toFloat16, from: fromFloat16 },
};

export const dtypes = Object.keys(details) as DType[];

export function isDType(value: unknown): value is DType {
  return typeof value === 'string' && Object.hasOwn(details, value);
}

export function dtypeDetail(dtype: DType): DTypeDetail {
  return details[dtype];
}

export function isFloat(dtype: DType): dtype is FloatDType {
  return dtype === 'float32' || dtype === 'float64' || isShortFloat(dtype);
}

export function isShortFloat(dtype: DType): dtype is ShortFloatDType {
  return Object.hasOwn(shortFloats, dtype);
}

/** The type of what operators compute over operands of a type: means, log-sum-exps, losses, norms. */
export function statisticsDType(dtype: DType): 'float32' | 'float64' {
  return dtype === 'float64' ? 'float64' : 'float32';
}

/** Numbers as the bits of a 16-bit type, rounded once to nearest, ties to even. */
export function toShortFloat(values: ArrayLike<number>, dtype: ShortFloatDType): Uint16Array<ArrayBuffer> {
  return shortFloats[dtype].to(values);
}

/** The numbers that are stored. */
export function valuesOf(stored: StoredArray, dtype: DType): TypedArray {
  return isShortFloat(dtype) ? fromShortFloat(stored as Uint16Array, dtype) : (stored as TypedArray);
}

/** The numbers that such bits are, exactly. */
export function fromShortFloat(bits: Uint16Array, dtype: ShortFloatDType): Float32Array<ArrayBuffer> {
  return shortFloats[dtype].from(bits);
}
