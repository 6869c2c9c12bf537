import type { Device } from '../device';
import type { FloatDType } from '../dtype';
import { XlformersError, describe } from '../errors';
import { binaryMask } from '../ops/binaryMask';
import { requireIds, requireShape } from '../ops/checks';
import { Tensor } from '../tensor';
import type { NestedArray } from '../tensorData';
import { type IdInput, idTensor, inPrecision } from './inputs';

/** A mask: a tensor of any type, or nested numbers. */
export type MaskInput = Tensor | NestedArray;

/** int32 [batch, length] of any values. */
export function integerTensor(name: string, input: IdInput, shape: readonly number[], device: Device): Tensor {
  const tensor = input instanceof Tensor ? input : idTensor(name, input, 2 ** 31, device, -1);
  requireIds(name, tensor);
  requireShape(name, tensor, shape);
  return tensor;
}

/**
 * A mask as bytes: 1 hides.
 * @param inverted the input has 1 for what shows (an attention mask)
 */
export function hidingMask(
  name: string,
  input: MaskInput,
  shape: readonly number[],
  device: Device,
  inverted = false,
): Tensor {
  const given = input instanceof Tensor ? input : Tensor.from(input, undefined, { device });
  requireShape(name, given, shape);
  return binaryMask(given, inverted);
}

/** Where the query stream's rows stand, as the model uses it. */
export type TargetInput = { positions: Tensor } | { mapping: Tensor };

/**
 * A target mapping [batch, rows, length]. Nested numbers whose rows are one-hot (or zero, for padding), with no position twice in a
 * sequence, become positions; anything else stays a mapping: rows that map to one position share their query there, as in the original.
 */
export function targetMapping(
  input: Tensor | NestedArray,
  [batch, length]: readonly [number, number],
  dtype: FloatDType,
  device: Device,
  keepMapping: boolean,
): TargetInput {
  const mapping =
    input instanceof Tensor ? inPrecision(input, dtype) : Tensor.from(input, undefined, { device, dtype });
  requireShape('targetMapping', mapping, [batch, -1, length]);
  if (input instanceof Tensor || keepMapping) {
    if (mapping.dtype !== dtype) {
      throw new XlformersError('ERR_ARG_TYPE', `targetMapping: got dtype ${mapping.dtype}, expected ${dtype}`);
    }
    return { mapping };
  }
  const rows = mapping.shape[1] as number;
  const positions = oneHotPositions(input as number[][][], rows);
  return positions ? { positions: Tensor.from(positions, [batch, rows], { device }) } : { mapping };
}

/** The position of each row's 1, -1 for a row of zeros; null where the mapping is no selection of distinct positions. */
function oneHotPositions(
  mapping: readonly (readonly (readonly number[])[])[],
  rows: number,
): Int32Array<ArrayBuffer> | null {
  const positions = new Int32Array(mapping.length * rows).fill(-1);
  for (const [b, sequence] of mapping.entries()) {
    const taken = new Set<number>();
    for (const [row, weights] of sequence.entries()) {
      for (const [position, weight] of weights.entries()) {
        if (weight === 0) continue;
        const index = b * rows + row;
        if (weight !== 1 || positions[index] !== -1 || taken.has(position)) return null;
        positions[index] = position;
        taken.add(position);
      }
    }
  }
  return positions;
}

/** @throws XlformersError ERR_ARG_TYPE when both are given */
export function requireOneOf(first: string, a: unknown, second: string, b: unknown): void {
  if (a !== undefined && a !== null && b !== undefined && b !== null) {
    throw new XlformersError(
      'ERR_ARG_TYPE',
      `${first}, ${second}: got ${describe(a)} and ${describe(b)}, expected one of the two`,
    );
  }
}
