import type { NativeDType } from './native';

/** Element types of tensors. `float64` serves tests and gradient checks; ids and labels are `int32`. */
export type DType = 'float32' | 'float64' | 'int32' | 'uint8';

export type FloatDType = 'float32' | 'float64';

export type TypedArray = Float32Array | Float64Array | Int32Array | Uint8Array;

interface DTypeDetail {
  native: NativeDType;
  bytes: number;
  array: new (buffer: ArrayBuffer) => TypedArray;
}

const details: Record<DType, DTypeDetail> = {
  float32: { native: 'f32', bytes: 4, array: Float32Array },
  float64: { native: 'f64', bytes: 8, array: Float64Array },
  int32: { native: 'i32', bytes: 4, array: Int32Array },
  uint8: { native: 'u8', bytes: 1, array: Uint8Array },
};

export const dtypes = Object.keys(details) as DType[];

export function isDType(value: unknown): value is DType {
  return typeof value === 'string' && Object.hasOwn(details, value);
}

export function dtypeDetail(dtype: DType): DTypeDetail {
  return details[dtype];
}

export function isFloat(dtype: DType): dtype is FloatDType {
  return dtype === 'float32' || dtype === 'float64';
}
