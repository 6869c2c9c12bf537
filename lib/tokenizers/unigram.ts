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

/** A power of two: sums are kept for no more positions than a piece can reach. */
const window = 2 * maxPieceLength;
const mask = window - 1;

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

  // By position modulo `window`: the best sum so far, and the next best. Between two calls all are -Infinity.
  private readonly best = new Float64Array(window).fill(-Infinity);
  private readonly second = new Float64Array(window).fill(-Infinity);
  // By position: the last piece of the best way there, its length, and by how much that way was better.
  private pieces = new Int32Array(64);
  private lengths = new Uint16Array(64);
  private margins = new Float32Array(64);

  constructor(private readonly options: UnigramOptions) {}

  /** Another with the same pieces, and results of its own. */
  twin(): Unigram {
    return new Unigram(this.options);
  }

  /** What a piece adds to the sum. */
  score(id: number): number {
    return id === this.options.unknownId ? this.options.unknownScore : (this.options.scores[id] as number);
  }

  /** Splits units [from, to) of a text. `initial` is the sum to start from: in float32 rounding depends on it. */
  split(text: string, from: number, to: number, initial = 0): void {
    const { trie, scores, unknownId, unknownScore, float32 } = this.options;
    const length = to - from;
    // Tables that one enormous word has left behind are given back.
    const capacity = this.pieces.length;
    if (length >= capacity || capacity > 64 * (length + 1024)) this.resize(length + 64);
    const { best, second } = this;
    best[0] = initial;

    for (let start = 0; start < length;) {
      let sum = best[start & mask] as number;
      if (float32 && Math.abs(sum) > largestSum) {
        // SentencePiece starts sums anew, lest small differences drown.
        // Nothing beyond the longest piece has been reached yet.
        const reached = Math.min(length, start + maxPieceLength);
        for (let index = start; index <= reached; index += 1) {
          best[index & mask] = Math.fround((best[index & mask] as number) - sum);
          second[index & mask] = Math.fround((second[index & mask] as number) - sum);
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
          this.offer(end, float32 ? Math.fround(exact) : exact, id, end - start);
          if (end - start === width) characterIsPiece = true;
        }
        if (end === length) break;
        node = trie.step(node, text.charCodeAt(from + end));
      }
      if (!characterIsPiece) {
        this.offer(start + width, float32 ? Math.fround(sum + unknownScore) : sum + unknownScore, unknownId, width);
      }
      for (const next = start + width; start < next; start += 1) this.leave(start);
    }
    this.sum = best[length & mask] as number;
    this.leave(length);
    this.trace(from, length);
  }

  /** A way to `end` whose last piece has that length. */
  private offer(end: number, sum: number, id: number, length: number): void {
    const { best, second } = this;
    const slot = end & mask;
    if (sum > (best[slot] as number)) {
      second[slot] = best[slot] as number;
      best[slot] = sum;
      this.pieces[end] = id;
      this.lengths[end] = length;
    } else if (sum > (second[slot] as number)) second[slot] = sum;
  }

  /** All ways to this position are known: its place is free for another. */
  private leave(position: number): void {
    const slot = position & mask;
    this.margins[position] = (this.best[slot] as number) - (this.second[slot] as number);
    this.best[slot] = -Infinity;
    this.second[slot] = -Infinity;
  }

  private trace(from: number, length: number): void {
    const { pieces, lengths, margins } = this;
    this.count = 0;
    this.margin = Infinity;
    for (let end = length; end > 0; end -= lengths[end] as number) {
      this.count += 1;
      this.margin = Math.min(this.margin, margins[end] as number);
    }
    if (this.count > this.ids.length) {
      this.ids = new Int32Array(withReserve(this.count));
      this.ends = new Int32Array(withReserve(this.count));
    }
    for (let index = this.count - 1, end = length; index >= 0; index -= 1) {
      this.ids[index] = pieces[end] as number;
      this.ends[index] = from + end;
      end -= lengths[end] as number;
    }
  }

  private resize(length: number): void {
    const capacity = withReserve(length);
    this.pieces = new Int32Array(capacity);
    this.lengths = new Uint16Array(capacity);
    this.margins = new Float32Array(capacity);
    this.ids = new Int32Array(64);
    this.ends = new Int32Array(64);
  }
}

/** Room to grow into, of little weight where texts are enormous. */
const withReserve = (count: number) => count + Math.min(count, 2 ** 20);
