import { XlformersError } from '../errors';
import { concatenate, gatherRows, permute, slice } from '../ops/shape';
import { requireFloat, requireSameShape, requireShape } from '../ops/checks';
import type { TensorContainer } from '../scope';
import { Tensor } from '../tensor';

/**
 * What a model remembers of earlier segments: for each layer the states that entered it (Dai et al. 2019, section 3.2), without
 * gradient. At inference also their projected keys and values, which are exact to keep while the weights stay.
 */
export class Memory implements TensorContainer {
  /**
   * @internal
   * @param hidden by layer, [batch, length, dModel]
   * @param keyValues by layer, [batch, length, 2 heads headDim]; null when they were not kept
   * @param version of the weights that made keyValues
   * @param starts by batch row, the first row that counts: a shorter memory is padded on the left; null: all count
   */
  constructor(
    readonly hidden: readonly Tensor[],
    readonly keyValues: readonly Tensor[] | null = null,
    readonly version = -1,
    readonly starts: readonly number[] | null = null,
  ) {}

  /** From states by layer as Hugging Face has them, [length, batch, dModel]. */
  static fromLayers(layers: readonly Tensor[]): Memory {
    const [first] = layers;
    if (first === undefined) throw new XlformersError('ERR_ARG_SHAPE', 'mems: got no layers');
    requireFloat('mems[0]', first);
    requireShape('mems[0]', first, [-1, -1, -1]);
    layers.forEach((layer, index) => requireSameShape(`mems[${index}]`, layer, first));
    return new Memory(layers.map((layer) => permute(layer, [1, 0, 2])));
  }

  /** @internal The memories of several batches as one, by layer [rows, length, dModel]. */
  static concatenate(memories: readonly Memory[]): Tensor[] {
    const [first] = memories;
    return (first?.hidden ?? []).map((_, layer) => concatenate(memories.map(({ hidden }) => hidden[layer] as Tensor)));
  }

  /** @internal The other way: equal shares of the rows. */
  static split(layers: readonly Tensor[], parts: number): Memory[] {
    const rows = (layers[0]?.shape[0] ?? 0) / parts;
    return Array.from(
      { length: parts },
      (_, part) => new Memory(layers.map((layer) => slice(layer, 0, part * rows, (part + 1) * rows))),
    );
  }

  /** @internal Memories of any lengths as one batch: the shorter ones are padded on the left with rows that attention does not see. */
  static join(memories: readonly Memory[]): Memory {
    const [first] = memories;
    if (first === undefined) throw new XlformersError('ERR_ARG_SHAPE', 'memories: got none, expected at least one');
    const length = Math.max(...memories.map((memory) => memory.length));
    const joined = (tensorsOf: (memory: Memory) => readonly Tensor[]) =>
      tensorsOf(first).map((_, index) =>
        concatenate(memories.map((memory) => padded(tensorsOf(memory)[index] as Tensor, length))),
      );
    const kept = memories.every(({ keyValues, version }) => keyValues !== null && version === first.version);
    return new Memory(
      joined(({ hidden }) => hidden),
      kept ? joined(({ keyValues }) => keyValues as readonly Tensor[]) : null,
      kept ? first.version : -1,
      startsOrNull(memories.flatMap((memory) => memory.rowStarts().map((start) => start + length - memory.length))),
    );
  }

  /** @internal Some of the batch rows, in that order. */
  select(rows: readonly number[]): Memory {
    const starts = this.rowStarts();
    return this.map(
      (tensor) => gatherRows(tensor, rows),
      rows.map((row) => starts[row] as number),
    );
  }

  /** @internal Without its last rows. */
  dropLast(count: number): Memory {
    const length = Math.max(0, this.length - count);
    return this.map(
      (tensor) => slice(tensor, 1, 0, length),
      this.rowStarts().map((start) => Math.min(start, length)),
    );
  }

  /** @internal The starts after `added` rows came and all but the last `length` went. */
  startsAfter(added: number, length: number): readonly number[] | null {
    const dropped = this.length + added - length;
    return startsOrNull(this.rowStarts().map((start) => Math.max(0, start - dropped)));
  }

  /** @internal `starts` as an operand of attention, int32 [batch]; null where all rows count. */
  startsTensor(): Tensor | null {
    const { starts } = this;
    return starts && Tensor.from(Int32Array.from(starts), [starts.length], { device: this.hidden[0]?.device });
  }

  /** Rows remembered. */
  get length(): number {
    return this.hidden[0]?.shape[1] ?? 0;
  }

  get batch(): number {
    return this.hidden[0]?.shape[0] ?? 0;
  }

  /** States by layer as Hugging Face has them: new tensors, [memoryLength, batch, dModel]. */
  get layers(): Tensor[] {
    return this.hidden.map((layer) => permute(layer, [1, 0, 2]));
  }

  *tensors(): Iterable<Tensor> {
    yield* this.hidden;
    if (this.keyValues) yield* this.keyValues;
  }

  dispose(): void {
    for (const tensor of this.tensors()) tensor.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  private rowStarts(): readonly number[] {
    return this.starts ?? new Array<number>(this.batch).fill(0);
  }

  private map(change: (tensor: Tensor) => Tensor, starts: readonly number[]): Memory {
    return new Memory(
      this.hidden.map(change),
      this.keyValues && this.keyValues.map(change),
      this.version,
      startsOrNull(starts),
    );
  }
}

function startsOrNull(starts: readonly number[]): readonly number[] | null {
  return starts.some((start) => start > 0) ? starts : null;
}

/** [batch, rows, columns] with zeros on the left, [batch, length, columns]. */
function padded(tensor: Tensor, length: number): Tensor {
  const [batch, rows, columns] = tensor.shape as [number, number, number];
  if (rows === length) return tensor;
  const zeros = Tensor.zeros([batch, length - rows, columns], { dtype: tensor.dtype, device: tensor.device });
  return concatenate([zeros, tensor], 1);
}
