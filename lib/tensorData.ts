import {
  type DType,
  type StoredArray,
  type TypedArray,
  dtypeDetail,
  dtypes,
  isDType,
  isShortFloat,
  toShortFloat,
} from './dtype';
import { XlformersError, describe } from './errors';

export type NestedArray = readonly (number | bigint | NestedArray)[];

/** Data that `Tensor.from` takes. */
export type TensorData = TypedArray | BigInt64Array | NestedArray | number;

/** Values of one type in row-major order, with the shape that they came in. */
export interface FlatData {
  /** As the tensor stores them: the bits of 16-bit floats. */
  array: StoredArray;
  dtype: DType;
  shape: number[];
}

const arrayDTypes: Partial<Record<string, DType>> = {
  Float32Array: 'float32',
  Float64Array: 'float64',
  Int32Array: 'int32',
  Uint8Array: 'uint8',
};

/** @throws XlformersError ERR_ARG_TYPE */
export function requireDType(dtype: unknown): asserts dtype is DType {
  if (isDType(dtype)) return;
  throw new XlformersError('ERR_ARG_TYPE', `dtype: got ${describe(dtype)}, expected one of ${dtypes.join(', ')}`);
}

/**
 * Typed arrays keep their type (BigInt64Array becomes int32), nested arrays and numbers become float32 unless `wanted` says otherwise.
 * @throws XlformersError ERR_ARG_TYPE, ERR_ARG_DATA, ERR_ARG_SHAPE, ERR_ARG_RANGE, ERR_OUT_OF_MEMORY
 */
export function flattenData(data: TensorData, wanted?: DType): FlatData {
  if (wanted !== undefined) requireDType(wanted);
  if (!ArrayBuffer.isView(data)) {
    const shape: number[] = [];
    const flat: (number | bigint)[] = [];
    flatten(data, 0, shape, flat);
    return { ...convert(flat, wanted ?? 'float32'), shape };
  }
  const { kind, array } = ownView(data);
  const dtype = arrayDTypes[kind];
  if (dtype !== undefined && (wanted === undefined || wanted === dtype)) {
    return { array: array as TypedArray, dtype, shape: [array.length] };
  }
  if (dtype === undefined && kind !== 'BigInt64Array') {
    throw new XlformersError(
      'ERR_ARG_DATA',
      `data: got ${kind}, expected Float32Array, Float64Array, Int32Array, Uint8Array, BigInt64Array or nested arrays`,
    );
  }
  return { ...convert(array, wanted ?? 'int32'), shape: [array.length] };
}

/**
 * The array itself when it has this type, or is the bytes of such values; float32 rounded to a 16-bit type.
 * @throws XlformersError ERR_ARG_DATA
 */
export function dataOfType(data: TypedArray, dtype: DType): StoredArray {
  if (ArrayBuffer.isView(data)) {
    const { kind, array } = ownView(data);
    if (arrayDTypes[kind] === dtype || kind === 'Uint8Array') return array as TypedArray;
    if (isShortFloat(dtype) && kind === 'Float32Array') return toShortFloat(array as Float32Array, dtype);
  }
  const expected = isShortFloat(dtype) ? 'Float32Array' : dtypeDetail(dtype).array.name;
  throw new XlformersError(
    'ERR_ARG_DATA',
    `data: got ${describe(data)}, expected a ${expected}, or its bytes in a Uint8Array`,
  );
}

/** Memory of this process. @throws XlformersError ERR_OUT_OF_MEMORY */
export function hostMemory(bytes: number): ArrayBuffer {
  try {
    return new ArrayBuffer(bytes);
  } catch (cause) {
    throw new XlformersError('ERR_OUT_OF_MEMORY', `host memory: ${bytes} bytes cannot be had`, { cause });
  }
}

type AnyArray = TypedArray | BigInt64Array;

const arrayPrototype = Object.getPrototypeOf(Uint8Array.prototype) as object;

/** What a typed array says of itself, whatever realm it comes from and whatever its properties and prototype were changed to. */
function intrinsic<T>(name: PropertyKey): (data: ArrayBufferView) => T {
  const get = Object.getOwnPropertyDescriptor(arrayPrototype, name)?.get as () => T;
  return (data) => get.call(data);
}

const kindOf = intrinsic<string | undefined>(Symbol.toStringTag);
const bufferOf = intrinsic<ArrayBuffer>('buffer');
const byteOffsetOf = intrinsic<number>('byteOffset');
const lengthOf = intrinsic<number>('length');
const valuesOf = Object.getOwnPropertyDescriptor(arrayPrototype, 'values')?.value as () => unknown;

/** A plain view of the same memory. Kinds that no tensor has are left as they are: they are refused by their name. */
function ownView(data: ArrayBufferView): { kind: string; array: AnyArray } {
  const kind = kindOf(data) ?? 'DataView';
  const dtype = arrayDTypes[kind];
  if (dtype === undefined && kind !== 'BigInt64Array') return { kind, array: data as AnyArray };
  const type = dtype === undefined ? BigInt64Array : dtypeDetail(dtype).array;
  try {
    valuesOf.call(data);
  } catch (cause) {
    throw new XlformersError('ERR_ARG_DATA', `data: got a ${kind} whose memory was detached or shrank away`, { cause });
  }
  return { kind, array: new type(bufferOf(data), byteOffsetOf(data), lengthOf(data)) as AnyArray };
}

const integerRanges: Partial<Record<DType, readonly [number, number]>> = {
  int32: [-(2 ** 31), 2 ** 31 - 1],
  uint8: [0, 255],
};

function convert(values: ArrayLike<number | bigint>, dtype: DType): { array: StoredArray; dtype: DType } {
  if (isShortFloat(dtype)) return { array: toShortFloat(numbers(values), dtype), dtype };
  const { array: ArrayType, bytes } = dtypeDetail(dtype);
  const array = new ArrayType(hostMemory(values.length * bytes));
  const range = integerRanges[dtype];
  for (let index = 0; index < array.length; index += 1) {
    const value = values[index];
    const number = Number(value);
    if (range && !(Number.isInteger(number) && number >= range[0] && number <= range[1])) {
      throw new XlformersError(
        'ERR_ARG_RANGE',
        `data[${index}]: got ${describe(value)}, expected an integer in [${range[0]}, ${range[1]}] for ${dtype}`,
      );
    }
    array[index] = number;
  }
  return { array, dtype };
}

/** Big integers as numbers. */
function numbers(values: ArrayLike<number | bigint>): ArrayLike<number> {
  return values instanceof BigInt64Array || Array.isArray(values)
    ? Float64Array.from(values, Number)
    : (values as ArrayLike<number>);
}

function flatten(data: TensorData, depth: number, shape: number[], flat: (number | bigint)[]): void {
  if (typeof data === 'number' || typeof data === 'bigint') {
    if (depth !== shape.length) throw new XlformersError('ERR_ARG_SHAPE', 'data: nested arrays of unequal depth');
    flat.push(data);
    return;
  }
  if (!Array.isArray(data) || depth >= 8) {
    throw new XlformersError('ERR_ARG_DATA', `data: got ${describe(data)}, expected numbers in nested arrays`);
  }
  if (shape.length === depth && flat.length === 0) shape.push(data.length);
  if (shape[depth] !== data.length) {
    throw new XlformersError(
      'ERR_ARG_SHAPE',
      `data: nested arrays of unequal length at depth ${depth}: got ${data.length}, expected ${shape[depth]}`,
    );
  }
  for (let index = 0; index < data.length; index += 1) flatten(data[index] as TensorData, depth + 1, shape, flat);
}
