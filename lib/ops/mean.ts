import { Tensor } from '../tensor';
import { widened } from './cast';
import { requireFloat } from './checks';
import { linear } from './linear';
import { reshape } from './shape';

/** The mean of all elements, as a product with a row of 1/n; of 16 bits in float32, where 1/n has the digits. @returns a scalar, shape [] */
export function mean(x: Tensor): Tensor {
  requireFloat('x', x);
  const values = widened(x);
  const { dtype, device, size } = values;
  const row = Tensor.full([1, size], 1 / size, { dtype, device });
  const sum = linear(reshape(values, [1, size]), row);
  const result = reshape(sum, []);
  row.dispose();
  sum.dispose();
  return result;
}
