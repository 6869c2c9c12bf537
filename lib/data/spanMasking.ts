import { XlformersError } from '../errors';
import type { RandomSource } from './dataRandom';

/**
 * `upstream`: n counts tokens, as in the original, whose search for the end of a span looks at its first token over and over
 * (zihangdai/xlnet issue 220), so that spans may end inside a word. `fixed`: n counts words, as intended.
 */
export type SpanMode = 'upstream' | 'fixed';

export const spanModes: readonly SpanMode[] = ['fixed', 'upstream'];

export interface SpanOptions {
  mode: SpanMode;
  /** Tokens to choose, in all. */
  goal: number;
  /** About `beta` of `alpha` tokens around a span are chosen. */
  alpha: number;
  beta: number;
  /** Longest span, in words (`fixed`) or tokens (`upstream`). */
  maxGram: number;
  /** The segment is in reverse; its words are looked for in the direction of reading. */
  reversed: boolean;
}

const punctuation = new Set('!"#$%&"()*+,-./:;?@[\\]^_`{|}~');

/** For each piece of a vocabulary, by id: 1 when a word, a special token or punctuation begins with it (`_is_start_piece`). */
export function startPieces(pieces: Iterable<string>): Uint8Array {
  return Uint8Array.from(pieces, (piece) =>
    piece.startsWith('▁') || piece.startsWith('<') || punctuation.has(piece) ? 1 : 0,
  );
}

/**
 * Chooses the tokens of a segment to predict, in spans of 1 … maxGram whose probability falls as 1/n, then singly up to the goal:
 * `_sample_mask` of the original's data_utils.py.
 * @param startsWord of each token of the segment: not 0 where a word begins
 * @returns 1 for each chosen token; exactly `goal` of them
 * @throws XlformersError ERR_ARG_RANGE when the segment has fewer tokens than the goal
 */
export function sampleSpans(startsWord: Uint8Array, options: SpanOptions, random: RandomSource): Uint8Array {
  const { goal, alpha, beta, maxGram, reversed } = options;
  const length = startsWord.length;
  if (goal > length) {
    throw new XlformersError('ERR_ARG_RANGE', `goal: got ${goal}, expected at most the segment's ${length} tokens`);
  }
  const starts = reversed ? startsWord.slice().reverse() : startsWord;
  const chosen = new Uint8Array(length);
  let left = goal;
  for (let position = 0; position < length && left > 0;) {
    const count = Math.min(spanLength(maxGram, random), left);
    const context = Math.floor((count * alpha) / beta);
    const before = random.integer(context);
    const begin = nextStart(starts, position + before);
    const end = spanEnd(starts, begin, count, options.mode, left);
    // A span at the end may go on beyond it: the original leaves it to the single draws.
    if (end >= length) break;
    chosen.fill(1, begin, end);
    left -= end - begin;
    position = end + context - before;
  }
  while (left > 0) {
    const index = random.integer(length);
    if (chosen[index] === 1) continue;
    chosen[index] = 1;
    left -= 1;
  }
  return reversed ? chosen.reverse() : chosen;
}

/** n in [1, maxGram] with probability proportional to 1/n. */
function spanLength(maxGram: number, random: RandomSource): number {
  let total = 0;
  for (let n = 1; n <= maxGram; n += 1) total += 1 / n;
  let rest = random.uniform() * total;
  for (let n = 1; n < maxGram; n += 1) {
    rest -= 1 / n;
    if (rest < 0) return n;
  }
  return maxGram;
}

/** The first position from `from` on where a word begins, or the length. */
function nextStart(starts: Uint8Array, from: number): number {
  let position = from;
  while (position < starts.length && starts[position] === 0) position += 1;
  return position;
}

/** Where the span of `count` words or tokens ends that begins at `begin`; no further than `limit` tokens on. */
function spanEnd(starts: Uint8Array, begin: number, count: number, mode: SpanMode, limit: number): number {
  if (mode === 'upstream') return begin + count;
  let end = begin;
  for (let word = 0; word < count && end < starts.length; word += 1) {
    const next = nextStart(starts, end + 1);
    // Only as many whole words as are still to be chosen; a single longer one is cut.
    if (next - begin > limit) return word === 0 ? begin + limit : end;
    end = next;
  }
  return end;
}
