import type { Device } from '../device';
import { dtypeDetail, type FloatDType } from '../dtype';
import { native } from '../native';
import { Tensor } from '../tensor';
import { requireComputing, requireInteger } from './checks';

export interface SinusoidOptions {
  /** Number of distances. */
  count: number;
  /** Width of the code; even. */
  columns: number;
  /** The first distance; the others ascend from it. Default 0. */
  firstDistance?: number;
  /** Distances are clipped to [-clamp, clamp] when > 0. Default 0: not clipped. */
  clamp?: number;
  dtype: FloatDType;
  device: Device;
}

/**
 * [sin(t f) | cos(t f)] with f_k = 10000^(-2k / columns): the position code of Transformer-XL (concatenated, not interleaved).
 * @returns [count, columns], row p for distance firstDistance + p
 */
export function sinusoidPositions(options: SinusoidOptions): Tensor {
  const { count, columns, firstDistance = 0, clamp = 0, dtype, device } = options;
  requireComputing('dtype', dtype, device);
  requireInteger('count', count, 0);
  requireInteger('columns', columns, 2);
  requireInteger('clamp', clamp, -Number.MAX_SAFE_INTEGER);
  const result = Tensor.empty([count, columns], dtype, device);
  native.sinusoidPositions({
    dtype: dtypeDetail(dtype).native,
    count,
    columns,
    firstDistance,
    clamp: Math.max(0, clamp),
    out: result.buffer,
  });
  return result;
}
