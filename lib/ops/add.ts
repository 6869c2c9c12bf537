import { needsTape, Tensor } from '../tensor';
import { record } from '../autograd';
import { native } from '../native';
import { dtypeDetail } from '../dtype';
import { requireFloat, requireSameShape } from './checks';

export interface AddOptions {
  /** Factor of x. Default 1. */
  alpha?: number;
  /** Factor of y. Default 1. */
  beta?: number;
  /** Receives the result instead of a new tensor; may be x or y. Not with gradients. @internal */
  out?: Tensor;
}

/**
 * alpha x + beta y, element-wise.
 * @param x any shape
 * @param y the same shape and dtype
 */
export function add(x: Tensor, y: Tensor, { alpha = 1, beta = 1, out }: AddOptions = {}): Tensor {
  requireFloat('x', x);
  requireSameShape('y', y, x);
  const result = out ?? Tensor.empty(x.shape, x.dtype, x.device);
  native.add({
    dtype: dtypeDetail(x.dtype).native,
    count: x.size,
    alpha,
    beta,
    x: x.buffer,
    y: y.buffer,
    out: result.buffer,
  });
  if (out === undefined && needsTape([x, y])) {
    record({
      name: 'add',
      inputs: [x, y],
      outputs: [result],
      saved: [],
      gradient: ([gradient], context) => [
        context.wants(0) ? scale(gradient as Tensor, alpha) : null,
        context.wants(1) ? scale(gradient as Tensor, beta) : null,
      ],
    });
  }
  return result;
}

/** factor x, element-wise. */
export function scale(x: Tensor, factor: number): Tensor {
  requireFloat('x', x);
  if (factor === 1 && !needsTape([x])) return x.alias();
  const result = Tensor.empty(x.shape, x.dtype, x.device);
  native.add({
    dtype: dtypeDetail(x.dtype).native,
    count: x.size,
    alpha: factor,
    beta: 0,
    x: x.buffer,
    y: null,
    out: result.buffer,
  });
  if (needsTape([x])) {
    record({
      name: 'scale',
      inputs: [x],
      outputs: [result],
      saved: [],
      gradient: ([gradient]) => [scale(gradient as Tensor, factor)],
    });
  }
  return result;
}
