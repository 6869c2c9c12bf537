import { scale } from '../ops/add';
import { embedding } from '../ops/embedding';
import { linear } from '../ops/linear';
import type { Parameter, Tensor } from '../tensor';
import type { Initializer, Parameters } from './parameters';

export interface AdaptiveEmbeddingOptions {
  vocabSize: number;
  /** Ids where clusters end, the last one left out. */
  cutoffs: readonly number[];
  /** Each cluster is this many times narrower than the one before; 1: one table. */
  divVal: number;
  dEmbed: number;
  dModel: number;
  weightInit: Initializer;
  projectionInit: Initializer;
}

/** Clusters of ids: [first, end). */
export function clusterRanges(cutoffs: readonly number[], vocabSize: number): { first: number; end: number }[] {
  return [...cutoffs, vocabSize].map((end, index) => ({ first: cutoffs[index - 1] ?? 0, end }));
}

/** Word embeddings, rare words narrower (Baevski & Auli 2019), projected to dModel and multiplied by sqrt(dModel). */
export class AdaptiveEmbedding {
  readonly layers: readonly Parameter[];
  /** Empty when there is one table of width dModel. */
  readonly projections: readonly Parameter[];
  private readonly firstIds: readonly number[];
  private readonly factor: number;

  constructor(
    private readonly parameters: Parameters,
    prefix: string,
    options: AdaptiveEmbeddingOptions,
  ) {
    const { vocabSize, cutoffs, divVal, dEmbed, dModel, weightInit, projectionInit } = options;
    const ranges = divVal === 1 ? [{ first: 0, end: vocabSize }] : clusterRanges(cutoffs, vocabSize);
    const width = (index: number) => Math.floor(dEmbed / divVal ** index);
    this.layers = ranges.map(({ first, end }, index) =>
      parameters.create(`${prefix}emb_layers.${index}.weight`, [end - first, width(index)], weightInit),
    );
    this.projections =
      divVal === 1 && dEmbed === dModel
        ? []
        : ranges.map((_, index) =>
            parameters.create(`${prefix}emb_projs.${index}`, [dModel, width(index)], projectionInit),
          );
    this.firstIds = ranges.map(({ first }) => first);
    this.factor = Math.sqrt(dModel);
  }

  /** @param ids int32 [batch, length] @returns [batch, length, dModel] */
  forward(ids: Tensor): Tensor {
    const [first, ...others] = this.layers.map((layer) => this.parameters.operand(layer)) as [Tensor, ...Tensor[]];
    const projections = this.projections.map((projection) => this.parameters.operand(projection));
    if (projections.length === 0) return embedding(ids, first, { scale: this.factor });
    if (others.length === 0) {
      return scale(linear(embedding(ids, first), projections[0] as Tensor), this.factor);
    }
    // Rows of other clusters are zero, and stay so under the projection.
    return [first, ...others].reduce<Tensor | null>((residual, layer, index) => {
      const firstId = this.firstIds[index] as number;
      const rows = embedding(ids, layer, { scale: this.factor, firstId, partial: true });
      return linear(rows, projections[index] as Tensor, { residual });
    }, null) as Tensor;
  }
}
