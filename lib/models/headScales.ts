import { requireSameKind, requireShape } from '../ops/checks';
import { slice } from '../ops/shape';
import type { Tensor } from '../tensor';

/** A head mask [heads] or [layers, heads] by layer; empty without one. */
export function headScales(mask: Tensor | null, layers: number, heads: number, like: Tensor): Tensor[] {
  if (!mask) return [];
  requireSameKind('headMask', mask, like);
  if (mask.shape.length === 1) {
    requireShape('headMask', mask, [heads]);
    return Array.from({ length: layers }, () => mask);
  }
  requireShape('headMask', mask, [layers, heads]);
  return Array.from({ length: layers }, (_, layer) => slice(mask, 0, layer, layer + 1).alias([heads]));
}
