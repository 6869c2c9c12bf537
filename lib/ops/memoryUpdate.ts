import { dtypeDetail } from '../dtype';
import { XlformersError } from '../errors';
import { native } from '../native';
import { Tensor } from '../tensor';
import { requireInteger, requireSameKind, requireShape, requireTensor } from './checks';

/** Columns [first, first + count) of a [batch, length, width] tensor. */
export interface ColumnRange {
  tensor: Tensor;
  first: number;
  count: number;
}

/**
 * The last `length` rows of [old; current] per batch row: the memory that the next segment sees (Dai et al. 2019, section 3.2).
 * No gradient flows through it.
 * @param old [batch, oldLength, columns], or null when there is none
 * @param current [batch, currentLength, columns], or some columns of a wider tensor
 * @returns [batch, length, columns]
 */
export function memoryUpdate(old: Tensor | null, current: Tensor | ColumnRange, length: number): Tensor {
  const source = current instanceof Tensor ? current : current.tensor;
  requireTensor('current', source);
  requireShape('current', source, [-1, -1, -1]);
  const [batch, currentLength, width] = source.shape as [number, number, number];
  const { first, count: columns } = current instanceof Tensor ? { first: 0, count: width } : current;
  requireInteger('current.first', first, 0, width);
  requireInteger('current.count', columns, 0, width - first);
  if (old) {
    requireSameKind('old', old, source);
    requireShape('old', old, [batch, -1, columns]);
  }
  const oldLength = old?.shape[1] ?? 0;
  requireInteger('length', length, 0);
  if (length > oldLength + currentLength) {
    throw new XlformersError(
      'ERR_ARG_RANGE',
      `length: got ${length}, expected at most ${oldLength} + ${currentLength} rows`,
    );
  }
  const result = Tensor.empty([batch, length, columns], source.dtype, source.device);
  const { bytes, native: dtype } = dtypeDetail(source.dtype);
  const start = Math.min(first, source.size);
  const currentView = native.view(source.buffer, start * bytes, (source.size - start) * bytes);
  native.memoryUpdate({
    dtype,
    batch,
    columns,
    oldRows: old?.buffer ?? null,
    oldLength,
    oldRowStride: columns,
    oldBatchStride: oldLength * columns,
    currentRows: currentView,
    currentLength,
    currentRowStride: width,
    currentBatchStride: currentLength * width,
    out: result.buffer,
    outLength: length,
  });
  native.release(currentView);
  return result;
}
