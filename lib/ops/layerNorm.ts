import { record } from '../autograd';
import { dtypeDetail, statisticsDType } from '../dtype';
import { native } from '../native';
import type { Generator } from '../random';
import { needsTape, Tensor } from '../tensor';
import { requireFloat, requireSameKind, requireSameShape, requireShape, rowsAndColumns } from './checks';
import { dropoutNumbers } from './dropout';

export interface LayerNormOptions {
  /** Added to the variance. */
  epsilon: number;
  /** Added to dropout(x) before the normalisation; same shape as x. */
  residual?: Tensor | null;
  /** Probability of dropout on x, in [0, 1). Default 0. */
  dropout?: number;
  /** Required when dropout > 0. */
  generator?: Generator | null;
}

/**
 * Layer normalisation (Ba et al. 2016) over the last axis, of dropout(x) + residual, in one pass.
 * @param x [..., D]
 * @param weight [D]
 * @param bias [D]
 */
export function layerNorm(x: Tensor, weight: Tensor, bias: Tensor, options: LayerNormOptions): Tensor {
  const { epsilon, residual = null, dropout = 0, generator } = options;
  requireFloat('x', x);
  const [rows, columns] = rowsAndColumns('x', x);
  for (const [name, tensor] of [
    ['weight', weight],
    ['bias', bias],
  ] as const) {
    requireSameKind(name, tensor, x);
    requireShape(name, tensor, [columns]);
  }
  if (residual) requireSameShape('residual', residual, x);
  const numbers = dropoutNumbers('layerNorm', dropout, generator);
  const { dtype, device } = x;
  const taped = needsTape([x, residual, weight, bias]);
  const y = Tensor.empty(x.shape, dtype, device);
  const sum = taped ? Tensor.empty(x.shape, dtype, device) : null;
  const mean = taped ? Tensor.empty([rows], statisticsDType(dtype), device) : null;
  const rstd = taped ? Tensor.empty([rows], statisticsDType(dtype), device) : null;
  const common = { dtype: dtypeDetail(dtype).native, rows, columns, ...numbers };
  native.layerNorm({
    epsilon,
    x: x.buffer,
    residual: residual?.buffer ?? null,
    weight: weight.buffer,
    bias: bias.buffer,
    sum: sum?.buffer ?? null,
    mean: mean?.buffer ?? null,
    rstd: rstd?.buffer ?? null,
    y: y.buffer,
    ...common,
  });
  if (sum && mean && rstd) {
    const { shape } = x;
    record({
      name: 'layerNorm',
      inputs: [x, residual, weight, bias],
      outputs: [y],
      saved: [sum, mean, rstd, weight],
      gradient: ([gradient], context) => {
        const [savedSum, savedMean, savedRstd, savedWeight] = context.saved as [Tensor, Tensor, Tensor, Tensor];
        const empty = (size: readonly number[]) => Tensor.empty(size, dtype, device);
        // Without dropout both inputs have the same gradient: one pass writes it once, the other input shares it.
        const split = dropout > 0 && context.wants(0);
        const xGradient = split || !context.wants(1) ? empty(shape) : null;
        const residualGradient = context.wants(1) ? empty(shape) : null;
        const weightGradient = empty([columns]);
        const biasGradient = empty([columns]);
        native.layerNormGradient({
          sum: savedSum.buffer,
          mean: savedMean.buffer,
          rstd: savedRstd.buffer,
          weight: savedWeight.buffer,
          yGradient: (gradient as Tensor).buffer,
          xGradient: xGradient?.buffer ?? null,
          residualGradient: residualGradient?.buffer ?? null,
          weightGradient: weightGradient.buffer,
          biasGradient: biasGradient.buffer,
          ...common,
        });
        return [xGradient ?? residualGradient, residualGradient, weightGradient, biasGradient];
      },
    });
  }
  return y;
}
