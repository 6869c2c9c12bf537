import { dtypeDetail } from '../dtype';
import { XlformersError } from '../errors';
import { native } from '../native';
import { Tensor } from '../tensor';
import { requireFloat, requireIds, requireInteger, requireSameKind, requireShape } from './checks';
import type { ColumnRange } from './memoryUpdate';

export interface RingAppendOptions {
  /** int32 [1], in [0, length): where the ring's oldest row lies. */
  head: Tensor;
  /** Whether to move the head behind the new rows: the last of the rings that share it does. Default true. */
  advance?: boolean;
}

/**
 * Writes rows to a ring in the place of its oldest: row (head + i) mod length of ring[b] becomes rows[b, i]. What was row j is then row
 * j - count. The ring and its head change in place, so that a recording of this call goes on from where the last replay left them.
 * @param ring [batch, length, columns]
 * @param rows [batch, count, columns] with count <= length, or some columns of a wider tensor
 */
export function ringAppend(
  ring: Tensor,
  rows: Tensor | ColumnRange,
  { head, advance = true }: RingAppendOptions,
): void {
  requireFloat('ring', ring);
  requireShape('ring', ring, [-1, -1, -1]);
  const [batch, length, columns] = ring.shape as [number, number, number];
  const source = rows instanceof Tensor ? rows : rows.tensor;
  requireSameKind('rows', source, ring);
  requireShape('rows', source, [batch, -1, -1]);
  const [, count, width] = source.shape as [number, number, number];
  const range = rows instanceof Tensor ? { first: 0, count: width } : rows;
  requireInteger('rows.first', range.first, 0, width);
  requireInteger('rows.count', range.count, 0, width - range.first);
  if (range.count !== columns) {
    throw new XlformersError('ERR_ARG_SHAPE', `rows: got ${range.count} columns, expected ${columns} as the ring has`);
  }
  if (count > length) {
    throw new XlformersError('ERR_ARG_SHAPE', `rows: got ${count}, expected at most ${length} as the ring has`);
  }
  requireIds('head', head);
  requireShape('head', head, [1]);
  const { bytes, native: dtype } = dtypeDetail(ring.dtype);
  const first = Math.min(range.first, source.size);
  const view = native.view(source.buffer, first * bytes, (source.size - first) * bytes);
  try {
    native.ringAppend({
      dtype,
      batch,
      columns,
      rows: view,
      count,
      rowStride: width,
      batchStride: count * width,
      ring: ring.buffer,
      length,
      head: head.buffer,
      advance,
    });
  } finally {
    native.release(view);
  }
}
