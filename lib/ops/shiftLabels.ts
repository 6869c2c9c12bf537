import { native } from '../native';
import { Tensor } from '../tensor';
import { requireIds, requireShape } from './checks';

/**
 * Labels moved one position to the left, the last position ignored: what position i is to predict when labels are the inputs.
 * @param labels int32 [batch, length]
 * @returns int32 [batch, length]
 */
export function shiftLabels(labels: Tensor, ignored: number): Tensor {
  requireIds('labels', labels);
  requireShape('labels', labels, [-1, -1]);
  const [batch, length] = labels.shape as [number, number];
  const result = Tensor.full([batch, length], ignored, { dtype: 'int32', device: labels.device });
  if (batch === 0 || length < 2) return result;
  const from = native.view(labels.buffer, 4, (labels.size - 1) * 4);
  native.copyStrided({
    dtype: 'i32',
    outer: 1,
    rows: batch,
    columns: length - 1,
    in: from,
    inOuterStride: labels.size,
    inRowStride: length,
    out: result.buffer,
    outOuterStride: labels.size,
    outRowStride: length,
  });
  native.release(from);
  return result;
}
