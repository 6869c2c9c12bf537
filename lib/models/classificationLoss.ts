import type { Device } from '../device';
import { statisticsDType } from '../dtype';
import { XlformersError, describe } from '../errors';
import { widened } from '../ops/cast';
import { requireIds, requireSameShape, requireShape } from '../ops/checks';
import { binaryCrossEntropy, squaredError } from '../ops/elementLoss';
import { mean } from '../ops/mean';
import { meanLabelled } from '../ops/meanNonzero';
import { reshape } from '../ops/shape';
import { softmaxCrossEntropy } from '../ops/softmaxCrossEntropy';
import { Tensor } from '../tensor';
import { idTensor } from './inputs';

/** Labels with this value count for nothing. */
export const ignoredLabel = -100;

/** Class ids (numbers, or an int32 tensor [batch]); or a float tensor [batch, numLabels] ([batch] with one label). */
export type ClassLabels = Tensor | readonly number[];

export interface ClassificationLossOptions {
  numLabels: number;
  /** null: from the labels, as Hugging Face: one label is regression, integers are classes, anything else several labels at once. */
  problemType: 'regression' | 'single_label_classification' | 'multi_label_classification' | null;
  device: Device;
}

/**
 * Hugging Face's loss of sequence classification: mean squared error, cross-entropy or binary cross-entropy.
 * @param logits [batch, numLabels]; of 16 bits, they meet numbers given as labels in float32
 * @returns a scalar
 */
export function classificationLoss(logits: Tensor, labels: ClassLabels, options: ClassificationLossOptions): Tensor {
  const { numLabels, problemType } = options;
  const [batch] = logits.shape as [number, number];
  const given = labels instanceof Tensor ? labels : labelTensor(labels, batch, logits, options);
  const integral = given.dtype === 'int32';
  const type =
    problemType ??
    (numLabels === 1 ? 'regression' : integral ? 'single_label_classification' : 'multi_label_classification');
  if (type === 'single_label_classification') {
    requireIds('labels', given);
    requireShape('labels', given, [batch]);
    return meanLabelled(softmaxCrossEntropy(logits, given), given);
  }
  const scores = widened(logits);
  const target = reshape(given, [batch, numLabels]);
  requireSameShape('labels', target, scores);
  return mean(type === 'regression' ? squaredError(scores, target) : binaryCrossEntropy(scores, target));
}

function labelTensor(
  labels: readonly number[],
  batch: number,
  logits: Tensor,
  { numLabels, device }: ClassificationLossOptions,
): Tensor {
  if (!Array.isArray(labels) || labels.length !== batch) {
    throw new XlformersError('ERR_ARG_SHAPE', `labels: got ${describe(labels)}, expected ${batch} numbers`);
  }
  if (numLabels === 1) {
    return Tensor.from(labels as number[], [batch], { device, dtype: statisticsDType(logits.dtype) });
  }
  const rows = labels.map((label) => [label as number]);
  return idTensor('labels', rows, numLabels, device, ignoredLabel).alias([batch]);
}
