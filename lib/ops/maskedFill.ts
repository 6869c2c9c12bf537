import { record } from '../autograd';
import { dtypeDetail } from '../dtype';
import { XlformersError } from '../errors';
import { native } from '../native';
import { needsTape, Tensor } from '../tensor';
import { requireFloat, requireShape } from './checks';

/**
 * `value` where the mask is not 0, x elsewhere.
 * @param mask uint8, of x's shape
 */
export function maskedFill(x: Tensor, mask: Tensor, value: number): Tensor {
  requireFloat('x', x);
  requireShape('mask', mask, x.shape);
  if (mask.dtype !== 'uint8') throw new XlformersError('ERR_ARG_TYPE', `mask: got dtype ${mask.dtype}, expected uint8`);
  const result = fill(x, mask, value);
  if (needsTape([x])) {
    record({
      name: 'maskedFill',
      inputs: [x],
      outputs: [result],
      saved: [mask],
      gradient: ([gradient], { saved }) => [fill(gradient as Tensor, saved[0] as Tensor, 0)],
    });
  }
  return result;
}

function fill(x: Tensor, mask: Tensor, value: number): Tensor {
  const out = Tensor.empty(x.shape, x.dtype, x.device);
  native.maskedFill({
    dtype: dtypeDetail(x.dtype).native,
    count: x.size,
    value,
    x: x.buffer,
    mask: mask.buffer,
    out: out.buffer,
  });
  return out;
}
