import { concatenate, gatherRows, slice } from '../ops/shape';
import { keep } from '../scope';
import { Tensor } from '../tensor';
import { Memory } from './memory';

/**
 * A memory that has all the rows that it may have, for decoding: each step writes its own rows over the oldest, in place, instead of
 * copying all others (`ringAppend`). Where the oldest lie is on the device, so that one recording serves all steps.
 */
export class MemoryRing {
  private constructor(
    /** By layer, [batch, length, dModel]. */
    readonly hidden: readonly Tensor[],
    /** By layer, [batch, length, 2 heads headDim]. */
    readonly keyValues: readonly Tensor[],
    /** Of the weights that made keyValues. */
    readonly version: number,
    /** int32 [1] */
    readonly head: Tensor,
    /** What `head` holds when everything enqueued has run. */
    private place: number,
  ) {
    for (const tensor of this.tensors()) keep(tensor);
  }

  /** Of a memory whose keys and values are known. It shares the tensors, which must be nobody else's. */
  static of({ hidden, keyValues, version }: Memory): MemoryRing {
    const device = hidden[0]?.device;
    const shared = (tensors: readonly Tensor[]) => tensors.map((tensor) => tensor.alias());
    return new MemoryRing(
      shared(hidden),
      shared(keyValues ?? []),
      version,
      Tensor.zeros([1], { dtype: 'int32', device }),
      0,
    );
  }

  get length(): number {
    return this.hidden[0]?.shape[1] ?? 0;
  }

  get batch(): number {
    return this.hidden[0]?.shape[0] ?? 0;
  }

  /** To be told of rows that were enqueued to be written. */
  advanced(rows: number): void {
    this.place = (this.place + rows) % this.length;
  }

  /** Some of the batch rows, in that order. */
  select(rows: readonly number[]): MemoryRing {
    const chosen = (tensors: readonly Tensor[]) => tensors.map((tensor) => gatherRows(tensor, rows));
    return new MemoryRing(
      chosen(this.hidden),
      chosen(this.keyValues),
      this.version,
      slice(this.head, 0, 0, 1),
      this.place,
    );
  }

  /** The rows in their order. */
  memory(): Memory {
    const { place, length, version } = this;
    const ordered = (tensors: readonly Tensor[]) =>
      tensors.map((tensor) => concatenate([slice(tensor, 1, place, length), slice(tensor, 1, 0, place)], 1));
    return new Memory(ordered(this.hidden), ordered(this.keyValues), version);
  }

  *tensors(): Iterable<Tensor> {
    yield* this.hidden;
    yield* this.keyValues;
    yield this.head;
  }

  dispose(): void {
    for (const tensor of this.tensors()) tensor.dispose();
  }
}
