import { record } from '../autograd';
import { dtypeDetail, type FloatDType, isFloat, isShortFloat } from '../dtype';
import { argumentError } from '../errors';
import { native } from '../native';
import { needsTape, Tensor } from '../tensor';
import { requireFloatType } from './checks';

/**
 * The same numbers in another floating type, rounded once to nearest, ties to even; what the type cannot hold becomes infinite. On
 * every device, in both directions; the gradient is cast back.
 */
export function cast(x: Tensor, dtype: FloatDType): Tensor {
  requireFloatType('x', x);
  if (!isFloat(dtype)) {
    throw argumentError('ERR_ARG_TYPE', 'dtype', dtype, 'float32, float64, bfloat16 or float16');
  }
  if (dtype === x.dtype && !needsTape([x])) return x.alias();
  const result = Tensor.empty(x.shape, dtype, x.device);
  castInto(x, result);
  recordCast(x, result);
  return result;
}

/** x, in float32 where it has 16 bits: for what labels in full precision are compared with. */
export function widened(x: Tensor): Tensor {
  return isShortFloat(x.dtype) ? cast(x, 'float32') : x;
}

/** @internal Puts on the tape that `result` is what a cast of x gave. */
export function recordCast(x: Tensor, result: Tensor): void {
  if (!needsTape([x])) return;
  record({
    name: 'cast',
    inputs: [x],
    outputs: [result],
    saved: [],
    cast: true,
    gradient: ([gradient], context) => {
      if (!context.wants(0)) return [null];
      const { tensor, accumulate } = context.target(0);
      castInto(gradient as Tensor, tensor, accumulate);
      return [null];
    },
  });
}

/** @internal out = x, or out + x. */
export function castInto(x: Tensor, out: Tensor, accumulate = false): void {
  native.cast({
    dtype: dtypeDetail(x.dtype).native,
    outDtype: dtypeDetail(out.dtype).native,
    count: x.size,
    accumulate,
    x: x.buffer,
    out: out.buffer,
  });
}
