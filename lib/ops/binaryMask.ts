import { noGrad } from '../autograd';
import { dtypeDetail } from '../dtype';
import { native } from '../native';
import { Tensor } from '../tensor';
import { widened } from './cast';
import { requireComputing, requireTensor } from './checks';

/**
 * A mask as bytes: x > 0 (input masks and permutation masks, where 1 hides), or x < 1 when inverted (attention masks, where 1 shows).
 * @returns uint8, of x's shape
 */
export function binaryMask(x: Tensor, inverted = false): Tensor {
  requireTensor('x', x);
  requireComputing('x', x.dtype, x.device);
  const values = noGrad(() => widened(x));
  const out = Tensor.empty(x.shape, 'uint8', x.device);
  native.binaryMask({
    dtype: dtypeDetail(values.dtype).native,
    count: x.size,
    inverted,
    x: values.buffer,
    out: out.buffer,
  });
  if (values !== x) values.dispose();
  return out;
}
