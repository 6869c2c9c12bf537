import { Tensor } from '../tensor';
import { requireFloat } from './checks';
import { linear } from './linear';
import { reshape } from './shape';

/** The mean of all elements, as a product with a row of 1/n. @returns a scalar, shape [] */
export function mean(x: Tensor): Tensor {
  requireFloat('x', x);
  const { dtype, device, size } = x;
  const row = Tensor.full([1, size], 1 / size, { dtype, device });
  const sum = linear(reshape(x, [1, size]), row);
  const result = reshape(sum, []);
  row.dispose();
  sum.dispose();
  return result;
}
