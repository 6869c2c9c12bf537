import { record } from '../autograd';
import { dtypeDetail } from '../dtype';
import { native } from '../native';
import { needsTape, Tensor } from '../tensor';
import { requireFloat } from './checks';

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

/** gradient * activation'(operand); the operand is the output for relu and tanh, the input for the others. */
export function activationGradient(gradient: Tensor, operand: Tensor, kind: Activation, scale = 1): Tensor {
  const result = Tensor.empty(operand.shape, operand.dtype, operand.device);
  native.activationGradient({
    dtype: dtypeDetail(operand.dtype).native,
    activation: kind,
    count: operand.size,
    scale,
    x: operand.buffer,
    outGradient: gradient.buffer,
    xGradient: result.buffer,
  });
  return result;
}
