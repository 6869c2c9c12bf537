import { record } from '../autograd';
import { dtypeDetail } from '../dtype';
import { native } from '../native';
import { needsTape, Tensor } from '../tensor';
import { requireFloat } from './checks';
import { type DropoutNumbers, noDropout } from './dropout';

/** `gelu` is the exact form with erf; `geluTanh` the approximation of the original TensorFlow code. */
export type Activation = 'none' | 'relu' | 'gelu' | 'geluTanh' | 'silu' | 'tanh';

/** Whether the gradient needs the output of the activation (relu, tanh) rather than its input. */
export function gradientUsesOutput(kind: Activation): boolean {
  return kind === 'relu' || kind === 'tanh' || kind === 'none';
}

/** The activation, element-wise. */
export function activation(x: Tensor, kind: Activation): Tensor {
  requireFloat('x', x);
  const result = Tensor.empty(x.shape, x.dtype, x.device);
  native.activation({
    dtype: dtypeDetail(x.dtype).native,
    activation: kind,
    count: x.size,
    x: x.buffer,
    out: result.buffer,
  });
  if (needsTape([x])) {
    record({
      name: 'activation',
      inputs: [x],
      outputs: [result],
      saved: [gradientUsesOutput(kind) ? result : x],
      gradient: ([gradient], { saved: [operand] }) => [activationGradient(gradient as Tensor, operand as Tensor, kind)],
    });
  }
  return result;
}

/**
 * The gradient of dropout(activation(x)) with respect to x.
 * @param operand the output for relu (of the dropout) and tanh (of the activation), x for the others; null for none
 * @param dropped of the dropout. Default: there was none
 */
export function activationGradient(
  gradient: Tensor,
  operand: Tensor | null,
  kind: Activation,
  dropped: DropoutNumbers = noDropout,
): Tensor {
  const result = Tensor.empty(gradient.shape, gradient.dtype, gradient.device);
  native.activationGradient({
    dtype: dtypeDetail(gradient.dtype).native,
    activation: kind,
    count: gradient.size,
    ...dropped,
    x: operand?.buffer ?? null,
    outGradient: gradient.buffer,
    xGradient: result.buffer,
  });
  return result;
}
