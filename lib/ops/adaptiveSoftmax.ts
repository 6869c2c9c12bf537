import { record } from '../autograd';
import { dtypeDetail, statisticsDType } from '../dtype';
import { XlformersError, argumentError } from '../errors';
import { native, type NativeBuffer } from '../native';
import { needsTape, Tensor } from '../tensor';
import { add } from './add';
import { requireFloat, requireIds, requireInteger, requireSameKind, requireShape } from './checks';
import type { RowRange } from './linear';

/** One cluster of ids; the first is the head. */
export interface SoftmaxCluster {
  firstId: number;
  size: number;
  /** [size, width], or a matrix that `weightRows` selects from. */
  weight: Tensor;
  /** The cluster's rows of a matrix that several clusters share. */
  weightRows?: RowRange;
  /** [size], or a vector that `weightRows` selects from. */
  bias: Tensor | null;
  /** [dModel, width]; null: width is dModel. */
  projection: Tensor | null;
}

export interface AdaptiveSoftmaxOperands {
  /** In the order of their ids, without gaps. One cluster: a plain softmax over a projected hidden state. */
  clusters: readonly SoftmaxCluster[];
  /** [clusters - 1, width of the head]; null with one cluster. */
  clusterWeight: Tensor | null;
  /** [clusters - 1] */
  clusterBias: Tensor | null;
  /** The column of tail c is counted from the last, as in the original PyTorch code. Default false. */
  reversedClusters?: boolean;
}

/**
 * Negative log-likelihoods under the adaptive softmax (Grave et al. 2017), projected per cluster as Transformer-XL does.
 * Logits are never stored whole.
 * @param hidden [N, dModel]
 * @param labels int32 [N]; -100: loss 0 and no gradient
 * @returns [N], float32 for hidden states of 16 bits
 */
export function adaptiveSoftmaxLoss(hidden: Tensor, labels: Tensor, operands: AdaptiveSoftmaxOperands): Tensor {
  const [rows, dModel] = checkOperands(hidden, operands);
  requireIds('labels', labels);
  requireShape('labels', labels, [rows]);
  const { dtype, device } = hidden;
  const loss = Tensor.empty([rows], statisticsDType(dtype), device);
  const { clusterWeight, clusterBias, reversedClusters = false } = operands;
  const common = { dtype: dtypeDetail(dtype).native, rows, dModel, reversedClusters };
  withClusters(operands, operandValues(operands), (clusters) =>
    native.adaptiveSoftmaxLoss({
      hidden: hidden.buffer,
      labels: labels.buffer,
      clusterWeight: clusterWeight?.buffer ?? null,
      clusterBias: clusterBias?.buffer ?? null,
      loss: loss.buffer,
      clusters,
      ...common,
    }),
  );
  // Tied weights appear once: a tensor's gradient is the sum over its uses.
  const weights = [...new Set([...operandValues(operands), clusterWeight, clusterBias])].filter(
    (tensor) => tensor !== null,
  );
  const inputs = [hidden, ...weights];
  if (needsTape(inputs)) {
    record({
      name: 'adaptiveSoftmaxLoss',
      inputs,
      outputs: [loss],
      saved: [hidden, labels, ...weights],
      gradient: ([gradient], context) => {
        const [savedHidden, savedLabels, ...savedWeights] = context.saved as [Tensor, Tensor, ...Tensor[]];
        const like = (tensor: Tensor) => Tensor.empty(tensor.shape, dtype, device);
        const savedOf = (tensor: Tensor) => savedWeights[weights.indexOf(tensor)] as Tensor;
        // A tensor that clusters share by rows has one gradient; one that they share whole (a tied projection) has one per use.
        const uses = gradientUses(operands, (tensor) =>
          context.wants(1 + weights.indexOf(tensor)) ? like(tensor) : null,
        );
        const hiddenGradient = like(savedHidden);
        const clusterGradient = (tensor: Tensor | null) =>
          tensor && context.wants(1 + weights.indexOf(tensor)) ? like(tensor) : null;
        const clusterWeightGradient = clusterGradient(clusterWeight);
        const clusterBiasGradient = clusterGradient(clusterBias);
        withClusters(
          operands,
          operandValues(operands).map((tensor) => tensor && savedOf(tensor)),
          (clusters) =>
            native.adaptiveSoftmaxLossGradient({
              hidden: savedHidden.buffer,
              labels: savedLabels.buffer,
              clusterWeight: clusterWeight && savedOf(clusterWeight).buffer,
              clusterBias: clusterBias && savedOf(clusterBias).buffer,
              lossGradient: (gradient as Tensor).buffer,
              hiddenGradient: hiddenGradient.buffer,
              clusterWeightGradient: clusterWeightGradient?.buffer ?? null,
              clusterBiasGradient: clusterBiasGradient?.buffer ?? null,
              clusters,
              ...common,
            }),
          uses,
        );
        const values = [...operandValues(operands), clusterWeight, clusterBias];
        const gradients = [...uses, clusterWeightGradient, clusterBiasGradient];
        const sumOf = (tensor: Tensor) =>
          [...new Set(gradients.filter((_, index) => values[index] === tensor))]
            .filter((use) => use !== null)
            .reduce<Tensor | null>((sum, use) => (sum ? add(sum, use) : use), null);
        return [context.wants(0) ? hiddenGradient : null, ...weights.map(sumOf)];
      },
    });
  }
  return loss;
}

/**
 * Log-probabilities of every id, in the order of ids. Not differentiable: training uses `adaptiveSoftmaxLoss`.
 * @param hidden [N, dModel]
 * @returns [N, V]
 */
export function adaptiveLogSoftmax(hidden: Tensor, operands: AdaptiveSoftmaxOperands): Tensor {
  const [rows, dModel] = checkOperands(hidden, operands);
  const vocabulary = operands.clusters.reduce((sum, cluster) => sum + cluster.size, 0);
  const logProbabilities = Tensor.empty([rows, vocabulary], hidden.dtype, hidden.device);
  const { clusterWeight, clusterBias, reversedClusters = false } = operands;
  withClusters(operands, operandValues(operands), (clusters) =>
    native.adaptiveLogSoftmax({
      dtype: dtypeDetail(hidden.dtype).native,
      rows,
      dModel,
      reversedClusters,
      hidden: hidden.buffer,
      clusterWeight: clusterWeight?.buffer ?? null,
      clusterBias: clusterBias?.buffer ?? null,
      logProbabilities: logProbabilities.buffer,
      clusters,
    }),
  );
  return logProbabilities;
}

function checkOperands(hidden: Tensor, operands: AdaptiveSoftmaxOperands): [rows: number, dModel: number] {
  requireFloat('hidden', hidden);
  requireShape('hidden', hidden, [-1, -1]);
  const [rows, dModel] = hidden.shape as [number, number];
  const { clusters, clusterWeight, clusterBias } = operands;
  const tails = clusters.length - 1;
  requireInteger('clusters.length', clusters.length, 1, 64);
  let firstId = 0;
  clusters.forEach((cluster, index) => {
    const name = `clusters[${index}]`;
    if (cluster.firstId !== firstId) {
      throw argumentError('ERR_ARG_RANGE', `${name}.firstId`, cluster.firstId, String(firstId));
    }
    requireInteger(`${name}.size`, cluster.size, 1);
    firstId += cluster.size;
    const { weight, bias, projection, weightRows } = cluster;
    requireSameKind(`${name}.weight`, weight, hidden);
    requireShape(`${name}.weight`, weight, [weightRows ? -1 : cluster.size, projection ? -1 : dModel]);
    if (weightRows) {
      requireInteger(`${name}.weightRows.first`, weightRows.first, 0, weight.shape[0]);
      requireInteger(`${name}.weightRows.count`, weightRows.count, cluster.size, cluster.size);
      requireInteger(`${name}.weightRows.first`, weightRows.first, 0, (weight.shape[0] as number) - cluster.size);
    }
    if (bias) requireShape(`${name}.bias`, bias, [weight.shape[0] as number]);
    if (projection) requireShape(`${name}.projection`, projection, [dModel, weight.shape[1] as number]);
  });
  if (tails > 0 !== Boolean(clusterWeight) || tails > 0 !== Boolean(clusterBias)) {
    throw new XlformersError(
      'ERR_ARG_SHAPE',
      'clusterWeight, clusterBias: expected both with several clusters, else none',
    );
  }
  if (clusterWeight && clusterBias) {
    requireShape('clusterWeight', clusterWeight, [tails, (clusters[0] as SoftmaxCluster).weight.shape[1] as number]);
    requireShape('clusterBias', clusterBias, [tails]);
  }
  return [rows, dModel];
}

/** Memory for the gradient of each operand value, shared where clusters take rows of one tensor. */
function gradientUses(
  operands: AdaptiveSoftmaxOperands,
  allocate: (tensor: Tensor) => Tensor | null,
): (Tensor | null)[] {
  const byRows = new Map<Tensor, Tensor | null>();
  const shared = (tensor: Tensor) => {
    if (!byRows.has(tensor)) byRows.set(tensor, allocate(tensor));
    return byRows.get(tensor) ?? null;
  };
  return operands.clusters.flatMap(({ weight, weightRows, bias, projection }) => [
    weightRows ? shared(weight) : allocate(weight),
    bias && (weightRows ? shared(bias) : allocate(bias)),
    projection && allocate(projection),
  ]);
}

/** Weight, bias and projection of each cluster, one after the other. */
function operandValues({ clusters }: AdaptiveSoftmaxOperands): (Tensor | null)[] {
  return clusters.flatMap(({ weight, bias, projection }) => [weight, bias, projection]);
}

type NativeClusters = Parameters<typeof native.adaptiveSoftmaxLoss>[0]['clusters'];

/** Builds the native cluster list with views that live as long as `use` runs. */
function withClusters(
  { clusters }: AdaptiveSoftmaxOperands,
  values: readonly (Tensor | null)[],
  use: (clusters: NativeClusters) => void,
  gradients: readonly (Tensor | null)[] = [],
): void {
  const views: NativeBuffer[] = [];
  const rowsOf = (tensor: Tensor | null | undefined, rows: RowRange | undefined): NativeBuffer | null => {
    if (!tensor) return null;
    if (!rows) return tensor.buffer;
    const rowBytes = (tensor.shape.length === 1 ? 1 : (tensor.shape[1] as number)) * dtypeDetail(tensor.dtype).bytes;
    const view = native.view(tensor.buffer, rows.first * rowBytes, rows.count * rowBytes);
    views.push(view);
    return view;
  };
  try {
    use(
      clusters.map((cluster, index) => {
        const [weight, bias, projection] = values.slice(3 * index, 3 * index + 3);
        const [weightGradient, biasGradient, projectionGradient] = gradients.slice(3 * index, 3 * index + 3);
        return {
          firstId: cluster.firstId,
          size: cluster.size,
          width: (weight as Tensor).shape[1] as number,
          weight: rowsOf(weight, cluster.weightRows) as NativeBuffer,
          bias: rowsOf(bias, cluster.weightRows),
          projection: projection?.buffer ?? null,
          weightGradient: rowsOf(weightGradient, cluster.weightRows),
          biasGradient: rowsOf(biasGradient, cluster.weightRows),
          projectionGradient: projectionGradient?.buffer ?? null,
        };
      }),
    );
  } finally {
    for (const view of views) native.release(view);
  }
}
