import { record } from '../autograd';
import { dtypeDetail, statisticsDType } from '../dtype';
import { native } from '../native';
import { needsTape, Tensor } from '../tensor';
import { requireFloat, requireSameShape } from './checks';

/** (x - target)², element-wise. */
export function squaredError(x: Tensor, target: Tensor): Tensor {
  return elementLoss('squaredError', x, target);
}

/** -log sigmoid(x) for target 1, -log(1 - sigmoid(x)) for target 0, linear between; element-wise. */
export function binaryCrossEntropy(logits: Tensor, target: Tensor): Tensor {
  return elementLoss('binaryCrossEntropy', logits, target);
}

function elementLoss(name: 'squaredError' | 'binaryCrossEntropy', x: Tensor, target: Tensor): Tensor {
  requireFloat('x', x);
  requireSameShape('target', target, x);
  const { dtype, device, shape } = x;
  const kind = { dtype: dtypeDetail(dtype).native, count: x.size };
  const loss = Tensor.empty(shape, statisticsDType(dtype), device);
  native[name]({ x: x.buffer, target: target.buffer, loss: loss.buffer, ...kind });
  if (needsTape([x])) {
    record({
      name,
      inputs: [x],
      outputs: [loss],
      saved: [x, target],
      gradient: ([gradient], { saved }) => {
        const [savedX, savedTarget] = saved as [Tensor, Tensor];
        const xGradient = Tensor.empty(shape, dtype, device);
        native[`${name}Gradient`]({
          x: savedX.buffer,
          target: savedTarget.buffer,
          lossGradient: (gradient as Tensor).buffer,
          xGradient: xGradient.buffer,
          ...kind,
        });
        return [xGradient];
      },
    });
  }
  return loss;
}
