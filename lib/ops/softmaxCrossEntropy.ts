import { record } from '../autograd';
import { dtypeDetail, statisticsDType } from '../dtype';
import { native } from '../native';
import { needsTape, Tensor } from '../tensor';
import { requireFloat, requireIds, requireShape } from './checks';

/**
 * Negative log-likelihood of each label under softmax(logits); 0 where the label is -100.
 * @param logits [N, C]
 * @param labels int32 [N]
 * @returns [N], float32 for logits of 16 bits
 */
export function softmaxCrossEntropy(logits: Tensor, labels: Tensor): Tensor {
  requireFloat('logits', logits);
  requireShape('logits', logits, [-1, -1]);
  const [rows, columns] = logits.shape as [number, number];
  requireIds('labels', labels);
  requireShape('labels', labels, [rows]);
  const { dtype, device } = logits;
  const loss = Tensor.empty([rows], statisticsDType(dtype), device);
  const logSumExp = Tensor.empty([rows], statisticsDType(dtype), device);
  const common = { dtype: dtypeDetail(dtype).native, rows, columns };
  native.softmaxCrossEntropy({
    logits: logits.buffer,
    labels: labels.buffer,
    logSumExp: logSumExp.buffer,
    loss: loss.buffer,
    ...common,
  });
  if (needsTape([logits])) {
    record({
      name: 'softmaxCrossEntropy',
      inputs: [logits],
      outputs: [loss],
      saved: [logits, labels, logSumExp],
      gradient: ([gradient], { saved }) => {
        const [savedLogits, savedLabels, savedLogSumExp] = saved as [Tensor, Tensor, Tensor];
        const logitsGradient = Tensor.empty([rows, columns], dtype, device);
        native.softmaxCrossEntropyGradient({
          logits: savedLogits.buffer,
          labels: savedLabels.buffer,
          logSumExp: savedLogSumExp.buffer,
          lossGradient: (gradient as Tensor).buffer,
          logitsGradient: logitsGradient.buffer,
          ...common,
        });
        return [logitsGradient];
      },
    });
  }
  logSumExp.dispose();
  return loss;
}
