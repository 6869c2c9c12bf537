import { record } from '../autograd';
import { dtypeDetail, statisticsDType } from '../dtype';
import { native } from '../native';
import { needsTape, Tensor } from '../tensor';
import { requireFloat, requireIds, requireShape } from './checks';
import { reshape, slice } from './shape';

/**
 * sum(x) / number of entries that are not zero: Hugging Face's `losses[losses != 0].mean()`, which leaves out ignored labels.
 * 0 when all entries are zero.
 * @returns a scalar, shape []
 */
export function meanNonzero(x: Tensor): Tensor {
  return meanOf(x, null);
}

/**
 * The mean over entries whose label is not -100: torch's `CrossEntropyLoss` (where an exactly zero loss counts). 0 when none counts.
 * @param labels int32, of x's shape
 * @returns a scalar, shape []
 */
export function meanLabelled(x: Tensor, labels: Tensor): Tensor {
  requireIds('labels', labels);
  requireShape('labels', labels, x.shape);
  return meanOf(x, labels);
}

function meanOf(x: Tensor, labels: Tensor | null): Tensor {
  requireFloat('x', x);
  const { dtype, device, shape } = x;
  const kind = { dtype: dtypeDetail(dtype).native, count: x.size };
  const statistics = Tensor.empty([2], statisticsDType(dtype), device);
  native.meanNonzero({ x: x.buffer, labels: labels?.buffer ?? null, out: statistics.buffer, ...kind });
  const first = slice(statistics, 0, 0, 1);
  const mean = reshape(first, []);
  first.dispose();
  if (needsTape([x])) {
    record({
      name: 'meanNonzero',
      inputs: [x],
      outputs: [mean],
      saved: [x, statistics, ...(labels ? [labels] : [])],
      gradient: ([gradient], { saved }) => {
        const [savedX, savedStatistics, savedLabels] = saved as [Tensor, Tensor, Tensor | undefined];
        const xGradient = Tensor.empty(shape, dtype, device);
        native.meanNonzeroGradient({
          x: savedX.buffer,
          labels: savedLabels?.buffer ?? null,
          out: savedStatistics.buffer,
          outGradient: (gradient as Tensor).buffer,
          xGradient: xGradient.buffer,
          ...kind,
        });
        return [xGradient];
      },
    });
  }
  statistics.dispose();
  return mean;
}
