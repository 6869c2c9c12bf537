import type { Device } from '../device';
import { type DType, type FloatDType, isFloat, isShortFloat } from '../dtype';
import { XlformersError, argumentError, describe } from '../errors';
import { Tensor } from '../tensor';

/** @throws XlformersError ERR_ARG_TYPE unless it is a tensor. */
export function requireTensor(name: string, value: unknown): asserts value is Tensor {
  if (!(value instanceof Tensor)) {
    throw new XlformersError('ERR_ARG_TYPE', `${name}: got ${describe(value)}, expected a Tensor`);
  }
}

/** @throws XlformersError ERR_ARG_TYPE unless it is an array of tensors, ERR_ARG_SHAPE when it has none. */
export function requireTensors(
  name: string,
  values: readonly Tensor[],
): asserts values is readonly [Tensor, ...Tensor[]] {
  if (!Array.isArray(values)) throw argumentError('ERR_ARG_TYPE', name, values, 'an array of tensors');
  if (values.length === 0) throw new XlformersError('ERR_ARG_SHAPE', `${name}: got none, expected at least one`);
  for (let index = 0; index < values.length; index += 1) requireTensor(`${name}[${index}]`, values[index]);
}

/** A floating tensor that its device computes with. @throws XlformersError ERR_ARG_TYPE, ERR_UNSUPPORTED */
export function requireFloat(name: string, tensor: Tensor): void {
  requireFloatType(name, tensor);
  requireComputing(name, tensor.dtype, tensor.device);
}

/** A floating tensor, even where its device only stores it. */
export function requireFloatType(name: string, tensor: Tensor): asserts tensor is Tensor & { dtype: FloatDType } {
  requireTensor(name, tensor);
  if (!isFloat(tensor.dtype)) {
    throw new XlformersError(
      'ERR_ARG_TYPE',
      `${name}: got dtype ${tensor.dtype}, expected float32, float64, bfloat16 or float16`,
    );
  }
}

/**
 * The CPU stores 16-bit floats, casts and copies them; whatever computes with them refuses here, before anything is enqueued.
 * @throws XlformersError ERR_UNSUPPORTED saying what to do
 */
export function requireComputing(name: string, dtype: DType, device: Device): void {
  if (!isShortFloat(dtype) || device.computesIn(dtype)) return;
  throw new XlformersError(
    'ERR_UNSUPPORTED',
    `${name}: got dtype ${dtype} on device ${device.name}, which stores it but does not compute with it; ` +
      'cast it to float32, or use a CUDA device',
  );
}

export function requireIds(name: string, tensor: Tensor): void {
  requireTensor(name, tensor);
  if (tensor.dtype !== 'int32') {
    throw new XlformersError('ERR_ARG_TYPE', `${name}: got dtype ${tensor.dtype}, expected int32`);
  }
}

/** What operands of one operator have in common. */
export type TensorKind = Pick<Tensor, 'dtype' | 'device'>;

/** The same dtype and device as `reference`. */
export function requireSameKind(name: string, tensor: Tensor, reference: TensorKind): void {
  requireTensor(name, tensor);
  if (tensor.dtype !== reference.dtype) {
    throw new XlformersError('ERR_ARG_TYPE', `${name}: got dtype ${tensor.dtype}, expected ${reference.dtype}`);
  }
  if (tensor.device !== reference.device) {
    throw new XlformersError(
      'ERR_ARG_HANDLE',
      `${name}: got a tensor on ${tensor.device.name}, expected one on ${reference.device.name}`,
    );
  }
}

/** Sizes that must match; -1 accepts any size. */
export function requireShape(name: string, tensor: Tensor, expected: readonly number[]): void {
  requireTensor(name, tensor);
  const fits =
    tensor.shape.length === expected.length &&
    expected.every((size, axis) => size === -1 || size === tensor.shape[axis]);
  if (!fits) {
    const wanted = expected.map((size) => (size === -1 ? '*' : size)).join(', ');
    throw new XlformersError('ERR_ARG_SHAPE', `${name}: got shape [${tensor.shape.join(', ')}], expected [${wanted}]`);
  }
}

export function requireSameShape(name: string, tensor: Tensor, reference: Tensor): void {
  requireSameKind(name, tensor, reference);
  requireShape(name, tensor, reference.shape);
}

export function requireInteger(name: string, value: number, lowest: number, highest = Number.MAX_SAFE_INTEGER): void {
  if (!Number.isSafeInteger(value) || value < lowest || value > highest) {
    throw new XlformersError(
      'ERR_ARG_RANGE',
      `${name}: got ${describe(value)}, expected an integer in [${lowest}, ${highest}]`,
    );
  }
}

/** A probability of dropout: [0, 1). */
export function requireProbability(name: string, value: number): void {
  if (typeof value !== 'number' || !(value >= 0 && value < 1)) {
    throw new XlformersError('ERR_ARG_RANGE', `${name}: got ${describe(value)}, expected a number in [0, 1)`);
  }
}

/** The last axis, and the number of rows before it. */
export function rowsAndColumns(name: string, tensor: Tensor): [rows: number, columns: number] {
  const columns = tensor.shape[tensor.shape.length - 1];
  if (columns === undefined) {
    throw new XlformersError('ERR_ARG_SHAPE', `${name}: got a scalar, expected at least one axis`);
  }
  return [tensor.shape.slice(0, -1).reduce((product, size) => product * size, 1), columns];
}
