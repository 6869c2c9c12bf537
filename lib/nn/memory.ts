import { XlformersError } from '../errors';
import { concatenate, permute, slice } from '../ops/shape';
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
   */
  constructor(
    readonly hidden: readonly Tensor[],
    readonly keyValues: readonly Tensor[] | null = null,
    readonly version = -1,
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
}
