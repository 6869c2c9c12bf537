import { dtypeDetail } from '../dtype';
import { native } from '../native';
import { Tensor } from '../tensor';
import { requireFloat, requireInteger, rowsAndColumns } from './checks';

export interface TopProbabilities {
  /** The softmax over the last axis, of the scores' shape. */
  probabilities: Tensor;
  /** [..., k], descending. */
  top: Tensor;
  /** int32 [..., k]: their columns; of equals the lower column first. */
  indices: Tensor;
}

/** The softmax over the last axis and its k largest. Not differentiable: it serves beams. */
export function topProbabilities(scores: Tensor, k: number): TopProbabilities {
  requireFloat('scores', scores);
  const [rows, columns] = rowsAndColumns('scores', scores);
  requireInteger('k', k, 1, columns);
  const { dtype, device, shape } = scores;
  const kept = [...shape.slice(0, -1), k];
  const probabilities = Tensor.empty(shape, dtype, device);
  const top = Tensor.empty(kept, dtype, device);
  const indices = Tensor.empty(kept, 'int32', device);
  native.topProbabilities({
    dtype: dtypeDetail(dtype).native,
    rows,
    columns,
    k,
    scores: scores.buffer,
    probabilities: probabilities.buffer,
    top: top.buffer,
    indices: indices.buffer,
  });
  return { probabilities, top, indices };
}
