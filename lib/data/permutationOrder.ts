import { XlformersError } from '../errors';
import type { RandomSource } from './dataRandom';

/** The tokens of one sample, by position. */
export interface MaskedTokens {
  /** Not 0: chosen for prediction. */
  isMasked: Uint8Array;
  /** Not 0: `<sep>` and `<cls>`, which are hidden like targets but never predicted. */
  isFunctional: Uint8Array;
}

export interface OrderOptions {
  /** Positions of the first part, whose hidden states become the memory of the next sample. */
  reuseLen: number;
  /** Positions permuted together; divides both parts. */
  permSize: number;
}

/** A factorization order as ranks: the key at position c is hidden from the queries at position p when keyRanks[c] >= queryRanks[p]. */
export interface FactorizationOrder {
  /** int32 [length] */
  queryRanks: Int32Array;
  /** int32 [length] */
  keyRanks: Int32Array;
  /** [length] Not 0: predicted. */
  isTarget: Uint8Array;
}

/** The rank, as a key, of a token that every position of its own part and of later ones sees. */
const openRank = -1;

/**
 * Draws the factorization order of one pretraining sample (Yang et al. 2019, section 2.2): the permutation masks of the original's
 * `_local_perm` and the way its `parser` joins them, in O(length) memory.
 *
 * Inside a part the original hides key j from query i when self_rev_index[i] <= rev_index[j] and j is masked or functional.
 * Ordinary tokens have rev_index -1 and no self_rev_index is below 0, so the comparison says it all, and the two vectors are the
 * ranks. Of the two parts the first sees nothing of the second, and the second all of the first: its ranks lie above.
 * @throws XlformersError ERR_ARG_SHAPE when permSize does not divide the parts
 */
export function factorizationOrder(
  { isMasked, isFunctional }: MaskedTokens,
  { reuseLen, permSize }: OrderOptions,
  random: RandomSource,
): FactorizationOrder {
  const length = isMasked.length;
  checkParts(length, reuseLen, permSize);
  const queryRanks = new Int32Array(length);
  const keyRanks = new Int32Array(length);
  const isTarget = new Uint8Array(length);
  for (const [start, end, base] of [
    [0, reuseLen, 0],
    // Above the ranks of the first part, of which reuseLen is the highest (a functional token that is last in order).
    [reuseLen, length, reuseLen + 1],
  ] as const) {
    const order = random.permutation(permSize);
    for (let position = start; position < end; position += 1) {
      const index = position - start;
      const offset = index % permSize;
      const rank = index - offset + (order[offset] as number);
      const functional = isFunctional[position] !== 0;
      const masked = isMasked[position] !== 0;
      const target = masked && !functional;
      const keyRank = masked || functional ? rank : openRank;
      isTarget[position] = target ? 1 : 0;
      keyRanks[position] = base + keyRank;
      // Targets do not see themselves.
      queryRanks[position] = base + keyRank + (target ? 0 : 1);
    }
  }
  return { queryRanks, keyRanks, isTarget };
}

function checkParts(length: number, reuseLen: number, permSize: number): void {
  for (const [name, size] of [
    ['reuseLen', reuseLen],
    ['the rest of the sample', length - reuseLen],
  ] as const) {
    if (size < permSize || size % permSize !== 0) {
      throw new XlformersError(
        'ERR_ARG_SHAPE',
        `permSize: got ${permSize}, expected a divisor of ${name} (${size} positions)`,
      );
    }
  }
}
