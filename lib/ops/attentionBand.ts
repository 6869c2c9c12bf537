import { XlformersError } from '../errors';
import type { Tensor } from '../tensor';
import { requireInteger } from './checks';

/**
 * Which keys a query sees. Keys count from the start of the memory: with M rows of memory, query i stands at key M + i, and sees
 * key j when  j <= M + i + upper  and  j >= floor(i / segment) * segment + lower.
 */
export interface AttentionBand {
  /** 0: itself and the past (causal). `Infinity`: the future too. Default 0. */
  upper?: number;
  /** null: no limit on the past. `same_length` and segment windows set it. Default null. */
  lower?: number | null;
  /** The lower limit moves in steps of so many queries. 1: with each query. Default 1. */
  segment?: number;
}

/** @internal A band in numbers, with no limit expressed by what the lengths cannot reach. */
export interface ResolvedBand {
  bandUpper: number;
  bandLower: number;
  bandSegment: number;
}

/**
 * @internal Checks that every query sees a key.
 * @throws XlformersError ERR_ARG_RANGE
 */
export function resolveBand(band: AttentionBand, queryLength: number, keyLength: number): ResolvedBand {
  const { upper = 0, lower = null, segment = 1 } = band;
  const memoryLength = keyLength - queryLength;
  const bandUpper = upper === Infinity ? keyLength : upper;
  const bandLower = lower ?? -keyLength;
  requireInteger('band.upper', bandUpper, -memoryLength);
  requireInteger('band.lower', bandLower, -Number.MAX_SAFE_INTEGER);
  requireInteger('band.segment', segment, 1);
  if (bandLower > memoryLength + bandUpper || bandLower + Math.max(0, queryLength - 1) > keyLength - 1) {
    throw new XlformersError(
      'ERR_ARG_RANGE',
      `band: lower ${bandLower} and upper ${bandUpper} leave queries without a key (memory ${memoryLength}, queries ${queryLength})`,
    );
  }
  return { bandUpper, bandLower, bandSegment: segment };
}

/** @internal @throws XlformersError ERR_AUTOGRAD for memory that is a ring where a gradient is to be had. */
export function refuseRing(memoryHead: Tensor | null): void {
  if (!memoryHead) return;
  throw new XlformersError(
    'ERR_AUTOGRAD',
    'memoryHead: memory that is a ring has no gradient; call it inside noGrad, or pass rows in order',
  );
}

/** @internal The smallest and largest distance memoryLength + i - j that the band lets a query see. */
export function visibleDistances(
  { bandUpper, bandLower, bandSegment }: ResolvedBand,
  queryLength: number,
  keyLength: number,
): { nearest: number; farthest: number } {
  const memoryLength = keyLength - queryLength;
  const nearest = Math.max(-bandUpper, memoryLength - (keyLength - 1));
  // Key 0 seen from the last query, or the lower limit seen from the end of a segment.
  const farthest = Math.min(
    memoryLength + queryLength - 1,
    memoryLength - bandLower + Math.min(bandSegment, queryLength) - 1,
  );
  return { nearest, farthest };
}
