import { dtypeDetail } from '../dtype';
import { XlformersError } from '../errors';
import { native, type NativeBuffer } from '../native';
import type { NativeRingRows } from '../nativeOperators';
import { Tensor } from '../tensor';
import { requireFloat, requireIds, requireInteger, requireSameKind, requireShape } from './checks';
import type { ColumnRange } from './memoryUpdate';

export interface RingAppendOptions {
  /** int32 [1], in [0, length): where the ring's oldest row lies. */
  head: Tensor;
  /** Whether to move the head behind the new rows: the last of the rings that share it does. Default true. */
  advance?: boolean;
}

/** @internal A ring and its new rows. */
export interface RingRows {
  /** [batch, length, columns] */
  ring: Tensor;
  /** [batch, count, columns] with count <= length, or some columns of a wider tensor. */
  rows: Tensor | ColumnRange;
}

/**
 * Writes rows to a ring in the place of its oldest: row (head + i) mod length of ring[b] becomes rows[b, i]. What was row j is then row
 * j - count. The ring and its head change in place, so that a recording of this call goes on from where the last replay left them.
 * @param ring [batch, length, columns]
 * @param rows [batch, count, columns] with count <= length, or some columns of a wider tensor
 */
export function ringAppend(ring: Tensor, rows: Tensor | ColumnRange, options: RingAppendOptions): void {
  appendToRings([{ ring, rows }], options);
}

/** @internal `ringAppend` for rings of one batch, count and length that share a head, by one call. */
export function appendToRings(rings: readonly RingRows[], { head, advance = true }: RingAppendOptions): void {
  const checked = rings.map(checkedRows);
  const [first] = checked;
  if (first === undefined) return;
  const { batch, count, length } = first;
  for (const [index, { ring }] of rings.entries()) {
    requireSameKind(`rings[${index}]`, ring, first.ring);
    if (checked[index]?.batch !== batch || checked[index]?.length !== length || checked[index]?.count !== count) {
      throw new XlformersError(
        'ERR_ARG_SHAPE',
        `rings[${index}]: got another batch, length or number of rows, expected those of rings that share a head`,
      );
    }
  }
  requireIds('head', head);
  requireShape('head', head, [1]);
  const { bytes, native: dtype } = dtypeDetail(first.ring.dtype);
  const views: NativeBuffer[] = [];
  try {
    const all = checked.map(({ ring, columns, source, from, width }): NativeRingRows => {
      const view = native.view(source.buffer, from * bytes, (source.size - from) * bytes);
      views.push(view);
      return { columns, rows: view, rowStride: width, batchStride: count * width, ring: ring.buffer };
    });
    native.ringAppend({ dtype, batch, count, length, rings: all, head: head.buffer, advance });
  } finally {
    views.forEach((view) => native.release(view));
  }
}

function checkedRows({ ring, rows }: RingRows) {
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
  return { ring, batch, length, columns, source, count, width, from: Math.min(range.first, source.size) };
}
