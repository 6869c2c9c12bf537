import type { Parameters } from '../nn/parameters';
import { requireSameKind, requireShape } from '../ops/checks';
import { slice } from '../ops/shape';
import type { Tensor } from '../tensor';
import { inPrecision } from './inputs';

/** A head mask [heads] or [layers, heads] by layer; empty without one. */
export function headScales(
  given: Tensor | null,
  layers: number,
  heads: number,
  { stateKind }: Pick<Parameters, 'stateKind'>,
): Tensor[] {
  if (!given) return [];
  const mask = inPrecision(given, stateKind.dtype);
  requireSameKind('headMask', mask, stateKind);
  if (mask.shape.length === 1) {
    requireShape('headMask', mask, [heads]);
    return Array.from({ length: layers }, () => mask);
  }
  requireShape('headMask', mask, [layers, heads]);
  return Array.from({ length: layers }, (_, layer) => slice(mask, 0, layer, layer + 1).alias([heads]));
}
