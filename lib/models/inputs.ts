import type { Device } from '../device';
import { XlformersError, describe } from '../errors';
import { Tensor } from '../tensor';
import { isShortFloat, type FloatDType } from '../dtype';
import { cast } from '../ops/cast';
import { requireIds, requireShape } from '../ops/checks';

/** Token ids or labels: an int32 tensor, or rows of numbers. */
export type IdInput = Tensor | readonly (readonly number[] | Int32Array)[];

/**
 * Ids as an int32 tensor [batch, length]. Rows of numbers are checked here, so that a bad id is named before anything runs; ids in a
 * tensor are checked by the operator that uses them.
 * @throws XlformersError ERR_TOKEN_ID naming row, position and range
 */
export function idTensor(name: string, input: IdInput, vocabSize: number, device: Device, ignored?: number): Tensor {
  if (input instanceof Tensor) {
    requireIds(name, input);
    requireShape(name, input, [-1, -1]);
    return input;
  }
  if (!Array.isArray(input) || input.length === 0) {
    throw new XlformersError(
      'ERR_ARG_TYPE',
      `${name}: got ${describe(input)}, expected an int32 tensor or rows of ids`,
    );
  }
  const rows = input as readonly ArrayLike<number>[];
  const length = rows[0]?.length ?? 0;
  const flat = new Int32Array(rows.length * length);
  rows.forEach((row, index) => {
    if (row.length !== length) {
      throw new XlformersError(
        'ERR_ARG_SHAPE',
        `${name}[${index}]: got ${row.length} ids, expected ${length} as in the first row`,
      );
    }
    for (let position = 0; position < length; position += 1) {
      const id = row[position] as number;
      const isIgnored = ignored !== undefined && id === ignored;
      if (!(Number.isInteger(id) && id >= 0 && id < vocabSize) && !isIgnored) {
        throw new XlformersError(
          'ERR_TOKEN_ID',
          `${name}[${index}][${position}]: got ${describe(id)}, expected an id in [0, ${vocabSize})`,
        );
      }
      flat[index * length + position] = id;
    }
  });
  return Tensor.from(flat, [rows.length, length], { device });
}

/** States or factors given by the caller: float32 suits a model that computes in 16 bits, and is cast. */
export function inPrecision(input: Tensor, precision: FloatDType): Tensor {
  return isShortFloat(precision) && input instanceof Tensor && input.dtype === 'float32'
    ? cast(input, precision)
    : input;
}
