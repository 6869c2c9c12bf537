import { dtypeDetail, isShortFloat } from '../dtype';
import { XlformersError } from '../errors';
import { native } from '../native';
import { Tensor } from '../tensor';
import { requireTensor } from './checks';

/**
 * A mask as bytes: x > 0 (input masks and permutation masks, where 1 hides), or x < 1 when inverted (attention masks, where 1 shows).
 * @returns uint8, of x's shape
 */
export function binaryMask(x: Tensor, inverted = false): Tensor {
  requireTensor('x', x);
  if (isShortFloat(x.dtype)) {
    throw new XlformersError(
      'ERR_UNSUPPORTED',
      `x: got dtype ${x.dtype}, expected uint8, int32, float32 or float64; cast it to float32`,
    );
  }
  const out = Tensor.empty(x.shape, 'uint8', x.device);
  native.binaryMask({
    dtype: dtypeDetail(x.dtype).native,
    count: x.size,
    inverted,
    x: x.buffer,
    out: out.buffer,
  });
  return out;
}
