/** Losses. */
import type { NativeBuffer, NativeDType, OptionalBuffer } from './types';

/** Ids [firstId, firstId + size); the first cluster is the head. */
export interface NativeSoftmaxCluster {
  firstId: number;
  size: number;
  width: number;
  /** [size, width] */
  weight: NativeBuffer;
  /** [size] */
  bias?: OptionalBuffer;
  /** [dModel, width]; absent: width is dModel. */
  projection?: OptionalBuffer;
  weightGradient?: OptionalBuffer;
  biasGradient?: OptionalBuffer;
  projectionGradient?: OptionalBuffer;
}

interface AdaptiveSoftmax {
  dtype: NativeDType;
  rows: number;
  dModel: number;
  /** The head's columns of the tails in the opposite order, as in the original PyTorch code. */
  reversedClusters: boolean;
  /** [rows, dModel] */
  hidden: NativeBuffer;
  /** [clusters - 1, width of the head]; present when there are several clusters. */
  clusterWeight?: OptionalBuffer;
  clusterBias?: OptionalBuffer;
  clusters: readonly NativeSoftmaxCluster[];
}

export interface NativeAdaptiveSoftmaxLoss extends AdaptiveSoftmax {
  /** int32 [rows]; -100: loss 0 and no gradient. */
  labels: NativeBuffer;
  loss: NativeBuffer;
}

export interface NativeAdaptiveSoftmaxLossGradient extends AdaptiveSoftmax {
  labels: NativeBuffer;
  lossGradient: NativeBuffer;
  hiddenGradient: NativeBuffer;
  clusterWeightGradient?: OptionalBuffer;
  clusterBiasGradient?: OptionalBuffer;
}

export interface NativeAdaptiveLogSoftmax extends AdaptiveSoftmax {
  /** [rows, vocabulary] */
  logProbabilities: NativeBuffer;
}

interface CrossEntropy {
  dtype: NativeDType;
  rows: number;
  columns: number;
  logits: NativeBuffer;
  /** int32 [rows] */
  labels: NativeBuffer;
  /** [rows], written by the forward operator. */
  logSumExp: NativeBuffer;
}

export interface NativeSoftmaxCrossEntropy extends CrossEntropy {
  loss: NativeBuffer;
}

export interface NativeSoftmaxCrossEntropyGradient extends CrossEntropy {
  lossGradient: NativeBuffer;
  logitsGradient: NativeBuffer;
}

/** out[0] = sum / number of entries that are not 0; out[1] = that number. */
export interface NativeMeanNonzero {
  dtype: NativeDType;
  count: number;
  x: NativeBuffer;
  /** int32 [count]: entries with a label other than -100 count. Absent: entries that are not zero. */
  labels?: OptionalBuffer;
  out: NativeBuffer;
}

export interface NativeMeanNonzeroGradient extends NativeMeanNonzero {
  outGradient: NativeBuffer;
  xGradient: NativeBuffer;
}

interface ElementLoss {
  dtype: NativeDType;
  count: number;
  x: NativeBuffer;
  target: NativeBuffer;
}

export interface NativeElementLoss extends ElementLoss {
  loss: NativeBuffer;
}

export interface NativeElementLossGradient extends ElementLoss {
  lossGradient: NativeBuffer;
  xGradient: NativeBuffer;
}
