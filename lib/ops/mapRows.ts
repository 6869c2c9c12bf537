import { record } from '../autograd';
import { dtypeDetail } from '../dtype';
import { native } from '../native';
import { needsTape, Tensor } from '../tensor';
import { requireFloat, requireSameKind, requireShape } from './checks';
import { noDropout } from './dropout';

/**
 * Rows mixed by a matrix of each batch row: y_b = M_b x_b, or M_bᵀ x_b when transposed. XLNet's target mappings that are not one-hot.
 * No gradient flows to the mapping.
 * @param x [batch, in, columns]
 * @param mapping [batch, out, in]; transposed: [batch, in, out]
 * @returns [batch, out, columns]
 */
export function mapRows(x: Tensor, mapping: Tensor, transposed = false): Tensor {
  requireFloat('x', x);
  requireShape('x', x, [-1, -1, -1]);
  requireSameKind('mapping', mapping, x);
  const [batch, rows] = x.shape as [number, number, number];
  requireShape('mapping', mapping, transposed ? [batch, rows, -1] : [batch, -1, rows]);
  const result = apply(x, mapping, transposed);
  if (needsTape([x])) {
    record({
      name: 'mapRows',
      inputs: [x],
      outputs: [result],
      saved: [mapping],
      gradient: ([gradient], { saved }) => [apply(gradient as Tensor, saved[0] as Tensor, !transposed)],
    });
  }
  return result;
}

function apply(x: Tensor, mapping: Tensor, transposed: boolean): Tensor {
  const [batch, inner, columns] = x.shape as [number, number, number];
  const rows = mapping.shape[transposed ? 2 : 1] as number;
  const result = Tensor.empty([batch, rows, columns], x.dtype, x.device);
  const { bytes, native: dtype } = dtypeDetail(x.dtype);
  for (let b = 0; b < batch; b += 1) {
    const part = (tensor: Tensor) => {
      const share = (tensor.size / batch) * bytes;
      return native.view(tensor.buffer, b * share, share);
    };
    const [a, right, c] = [part(mapping), part(x), part(result)];
    native.matrixProduct({
      dtype,
      cDtype: dtype,
      rows,
      columns,
      inner,
      transposeA: transposed,
      transposeB: false,
      packedB: false,
      accumulate: false,
      activation: 'none',
      ...noDropout,
      a,
      aStride: mapping.shape[2] as number,
      b: right,
      bStride: columns,
      bias: null,
      residual: null,
      residualStride: 0,
      preActivation: null,
      c,
      cStride: columns,
    });
    for (const view of [a, right, c]) native.release(view);
  }
  return result;
}
