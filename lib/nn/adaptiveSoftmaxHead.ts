import { adaptiveLogSoftmax, adaptiveSoftmaxLoss, type AdaptiveSoftmaxOperands } from '../ops/adaptiveSoftmax';
import type { Parameter, Tensor } from '../tensor';
import { type AdaptiveEmbedding, clusterRanges } from './adaptiveEmbedding';
import type { Initializer, Parameters } from './parameters';

export interface AdaptiveSoftmaxHeadOptions {
  vocabSize: number;
  cutoffs: readonly number[];
  divVal: number;
  dEmbed: number;
  dModel: number;
  /** Output weights are the embedding's. */
  tieWeights: boolean;
  /** By cluster: whether the projection is the embedding's. */
  tieProjections: readonly boolean[];
  /** Column order of the original PyTorch code. */
  reversedClusters: boolean;
  weightInit: Initializer;
  clusterInit: Initializer;
  projectionInit: Initializer;
}

/** The projected adaptive softmax, tied to the embedding or not; checkpoint names under `crit.`. */
export class AdaptiveSoftmaxHead {
  private readonly weights: AdaptiveSoftmaxOperands;

  constructor(
    private readonly parameters: Parameters,
    embedding: AdaptiveEmbedding,
    options: AdaptiveSoftmaxHeadOptions,
  ) {
    const { vocabSize, cutoffs, divVal, dEmbed, dModel, tieWeights, tieProjections, reversedClusters } = options;
    const { weightInit, clusterInit, projectionInit } = options;
    const zero: Initializer = { kind: 'constant', value: 0 };
    const ranges = clusterRanges(cutoffs, vocabSize);
    const tails = ranges.length - 1;
    const width = (index: number) => Math.floor(dEmbed / divVal ** index);

    const clusterWeight = tails > 0 ? parameters.create('crit.cluster_weight', [tails, dEmbed], clusterInit) : null;
    const clusterBias = tails > 0 ? parameters.create('crit.cluster_bias', [tails], zero) : null;

    const layer = (index: number, size: number) => {
      const name = `crit.out_layers.${index}`;
      const weight = tieWeights
        ? parameters.alias(`${name}.weight`, embedding.layers[index] as Parameter)
        : parameters.create(`${name}.weight`, [size, width(index)], weightInit);
      return { weight, bias: parameters.create(`${name}.bias`, [size], zero) };
    };
    const projection = (index: number): Parameter | null => {
      const name = `crit.out_projs.${index}`;
      const needed = divVal !== 1 || dModel !== dEmbed;
      if (!needed) return null;
      const tied = embedding.projections[divVal === 1 ? 0 : index];
      return tieProjections[index] && tied
        ? parameters.alias(name, tied)
        : parameters.create(name, [dModel, width(index)], projectionInit);
    };

    // With div_val 1 all clusters are rows of one matrix.
    const shared = divVal === 1 ? layer(0, vocabSize) : null;
    this.weights = {
      clusters: ranges.map(({ first, end }, index) => ({
        firstId: first,
        size: end - first,
        ...(shared ?? layer(index, end - first)),
        ...(shared && tails > 0 ? { weightRows: { first, count: end - first } } : {}),
        projection: projection(index),
      })),
      clusterWeight,
      clusterBias,
      reversedClusters,
    };
  }

  /** Negative log-likelihoods: hidden [N, dModel], labels int32 [N] → [N]. */
  loss(hidden: Tensor, labels: Tensor): Tensor {
    return adaptiveSoftmaxLoss(hidden, labels, this.operands());
  }

  /** Log-probabilities of all ids: hidden [N, dModel] → [N, vocabSize]. */
  logProbabilities(hidden: Tensor): Tensor {
    return adaptiveLogSoftmax(hidden, this.operands());
  }

  /** The weights as the operators take them; what clusters share stays one tensor. */
  private operands(): AdaptiveSoftmaxOperands {
    const taken = new Map<Tensor, Tensor>();
    const take = <T extends Tensor | null>(weight: T): T => {
      if (weight === null) return weight;
      if (!taken.has(weight)) taken.set(weight, this.parameters.operand(weight as Tensor as Parameter));
      return taken.get(weight) as T;
    };
    const { clusters, clusterWeight, clusterBias } = this.weights;
    return Object.assign({}, this.weights, {
      clusters: clusters.map((cluster) =>
        Object.assign({}, cluster, {
          weight: take(cluster.weight),
          bias: take(cluster.bias),
          projection: take(cluster.projection),
        }),
      ),
      clusterWeight: take(clusterWeight),
      clusterBias: take(clusterBias),
    });
  }
}
