import type { CharTrie } from './charTrie';
import { maxPieceLength } from './limits';

export interface UnigramOptions {
  /** Piece ids by text. */
  trie: CharTrie;
  /** By piece id. */
  scores: Float64Array;
  unknownId: number;
  /** What a character outside the vocabulary costs. */
  unknownScore: number;
  /** Round sums to float32, as SentencePiece keeps them; Hugging Face's `tokenizers` has float64. */
  float32: boolean;
}

/** Where SentencePiece 0.2.3 takes the sum reached so far from all (unigram_model.cc, kScoreResetThreshold). */
export const largestSum = 100_000;

/**
 * The most probable way to write a text as pieces (Viterbi). Of ways that are equal the one found first stays: pieces in the order of
 * their beginnings, shorter ones before longer ones, as in both implementations that are followed.
 */
export class Unigram {
  /** Of the last `split`: how many pieces, */
  count = 0;
  /** their ids, */
  ids = new Int32Array(64);
  /** where each ends, */
  ends = new Int32Array(64);
  /** the sum of their scores from `initial` on, */
  sum = 0;
  /** and by how much the way taken was better than others at the closest of its decisions. */
  margin = Infinity;

  // By position: the best sum so far, the next best, and the last piece of the best with its beginning.
  private best = new Float64Array(64);
  private second = new Float64Array(64);
  private pieces = new Int32Array(64);
  private starts = new Int32Array(64);

  constructor(private readonly options: UnigramOptions) {}

  /** What a piece adds to the sum. */
  score(id: number): number {
    return id === this.options.unknownId ? this.options.unknownScore : (this.options.scores[id] as number);
  }

  /** Splits units [from, to) of a text. `initial` is the sum to start from: in float32 rounding depends on it. */
  split(text: string, from: number, to: number, initial = 0): void {
    const { trie, scores, unknownId, unknownScore, float32 } = this.options;
    const length = to - from;
    // Tables that one enormous word has left behind are given back.
    if (length >= this.best.length || this.best.length > 64 * (length + 1024)) this.resize(length + 64);
    const { best, second, pieces, starts } = this;
    best.fill(-Infinity, 0, length + 1);
    second.fill(-Infinity, 0, length + 1);
    best[0] = initial;

    for (let start = 0; start < length;) {
      let sum = best[start] as number;
      if (float32 && Math.abs(sum) > largestSum) {
        // SentencePiece starts sums anew, lest small differences drown.
        // Nothing beyond the longest piece has been reached yet.
        const reached = Math.min(length, start + maxPieceLength);
        for (let index = start; index <= reached; index += 1) {
          best[index] = Math.fround((best[index] as number) - sum);
          second[index] = Math.fround((second[index] as number) - sum);
        }
        sum = 0;
      }
      const first = text.charCodeAt(from + start);
      const width = first >= 0xd800 && first <= 0xdbff ? 2 : 1;
      let characterIsPiece = false;
      let node = trie.step(0, first);
      for (let end = start + 1; node !== 0; end += 1) {
        const id = trie.value(node);
        if (id >= 0) {
          const exact = sum + (scores[id] as number);
          const candidate = float32 ? Math.fround(exact) : exact;
          if (candidate > (best[end] as number)) {
            second[end] = best[end] as number;
            best[end] = candidate;
            pieces[end] = id;
            starts[end] = start;
          } else if (candidate > (second[end] as number)) second[end] = candidate;
          if (end - start === width) characterIsPiece = true;
        }
        if (end === length) break;
        node = trie.step(node, text.charCodeAt(from + end));
      }
      if (!characterIsPiece) {
        const end = start + width;
        const candidate = float32 ? Math.fround(sum + unknownScore) : sum + unknownScore;
        if (candidate > (best[end] as number)) {
          second[end] = best[end] as number;
          best[end] = candidate;
          pieces[end] = unknownId;
          starts[end] = start;
        } else if (candidate > (second[end] as number)) second[end] = candidate;
      }
      start += width;
    }
    this.trace(from, length);
  }

  private trace(from: number, length: number): void {
    const { best, second, pieces, starts, ids, ends } = this;
    let count = 0;
    let margin = Infinity;
    for (let end = length; end > 0; end = starts[end] as number) {
      ids[count] = pieces[end] as number;
      ends[count] = from + end;
      count += 1;
      margin = Math.min(margin, (best[end] as number) - (second[end] as number));
    }
    ids.subarray(0, count).reverse();
    ends.subarray(0, count).reverse();
    this.count = count;
    this.sum = best[length] as number;
    this.margin = margin;
  }

  private resize(length: number): void {
    const capacity = Math.ceil(1.5 * length);
    this.best = new Float64Array(capacity);
    this.second = new Float64Array(capacity);
    for (const name of ['pieces', 'starts', 'ids', 'ends'] as const) this[name] = new Int32Array(capacity);
  }
}
