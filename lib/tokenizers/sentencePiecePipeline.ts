import { type AddedToken, AddedTokenMatcher } from './addedTokens';
import { AlignedText } from './alignedText';
import type { Normalizer } from './normalizers';
import { type Pipeline, metaspace, wellFormed } from './pipeline';
import type { TokenSink, WordTokens } from './tokenSink';
import { type Unigram, largestSum } from './unigram';
import { pythonDigit, pythonSpace } from './unicode';
import { WordCache } from './wordCache';

export interface SentencePieceOptions {
  normalizer: Normalizer;
  /** Cut at all that Python takes for white space, not at spaces alone. */
  removeSpace: boolean;
  /** Whether no piece and no rule of the normalization table crosses a space. */
  separable: boolean;
  unigram: Unigram;
  unknownId: number;
  addedTokens: readonly AddedToken[];
  /** By id. */
  pieces: readonly string[];
  idOf: ReadonlyMap<string, number>;
}

interface Piece {
  id: number;
  text: string;
  start: number;
  end: number;
}

interface Word extends WordTokens {
  /** The scores along the way taken, and how sure it was. */
  scores: readonly number[];
  margin: number;
  length: number;
  /** Of the scores, and of what was before. */
  sum: number;
}

/**
 * XLNet's tokenizer as Hugging Face's Python class runs it over SentencePiece: added tokens, white space, quotes and accents, the
 * normalization table, pieces, and the rule that takes a comma from a digit.
 *
 * SentencePiece sums scores over the whole text in float32, so that of two ways almost equally good, the one it takes depends on all that
 * precedes. Words are remembered together with their margin; where rounding could exceed it the word is split anew from the sum it meets.
 */
export class SentencePiecePipeline implements Pipeline {
  private readonly addedTokens: AddedTokenMatcher;
  private readonly addedIds: ReadonlySet<number>;
  private readonly words = new WordCache((word) => this.splitWord(word, 0));
  private readonly isBorder: (unit: number) => boolean;
  private readonly metaspaceId: number | undefined;

  constructor(private readonly options: SentencePieceOptions) {
    this.addedTokens = new AddedTokenMatcher(options.addedTokens);
    this.addedIds = new Set(options.addedTokens.map(({ id }) => id));
    this.metaspaceId = options.idOf.get(metaspace);
    const borders = new Uint8Array(65536);
    for (let unit = 0; unit < 65536; unit += 1) {
      if (options.removeSpace ? pythonSpace.test(String.fromCharCode(unit)) : unit === 0x20) borders[unit] = 1;
    }
    this.isBorder = (unit) => borders[unit] === 1;
  }

  encode(text: string, sink: TokenSink): void {
    this.addedTokens.forEach(
      text,
      (from, to) =>
        this.options.separable ? this.encodeWords(text, from, to, sink) : this.encodeWhole(text, from, to, sink),
      (id, from, to) => sink.push(id, from, to),
    );
  }

  decode(ids: readonly number[]): string {
    const { pieces } = this.options;
    let text = '';
    let run = '';
    const endRun = () => {
      // Python's strip().
      text += trim(run.replaceAll(metaspace, ' '));
      run = '';
    };
    for (const id of ids) {
      if (this.addedIds.has(id)) {
        endRun();
        text += pieces[id] as string;
      } else run += pieces[id] as string;
    }
    endRun();
    return text;
  }

  private encodeWords(text: string, from: number, to: number, sink: TokenSink): void {
    const { isBorder } = this;
    const before = sink.count;
    const unknownCost = Math.abs(this.options.unigram.score(this.options.unknownId));
    let sum = 0;
    for (let start = from; start < to;) {
      if (isBorder(text.charCodeAt(start))) {
        start += 1;
        continue;
      }
      let end = start + 1;
      while (end < to && !isBorder(text.charCodeAt(end))) end += 1;
      let word = this.words.get(text, start, end);
      const largest = Math.abs(sum) + word.length * unknownCost;
      // Every character on either way may add half a unit of float32's last place, in this run and in the one remembered.
      if (word.margin <= word.length * largest * 2 ** -22 || largest > largestSum) {
        word = this.splitWord(text.slice(start, end), sum);
        sum = word.sum;
      } else {
        for (let index = 0; index < word.scores.length; index += 1)
          sum = Math.fround(sum + (word.scores[index] as number));
      }
      sink.pushAll(word, start);
      start = end;
    }
    // SentencePiece strips the end of the normalized text, where a U+2581 of the text itself counts as a space.
    while (sink.count > before && sink.lastId() === this.metaspaceId) sink.count -= 1;
  }

  private encodeWhole(text: string, from: number, to: number, sink: TokenSink): void {
    const stretch = Array.from(text.slice(from, to), (character) =>
      this.isBorder(character.charCodeAt(0)) ? ' ' : character,
    ).join('');
    sink.pushAll(this.splitWord(stretch, 0), from);
  }

  private splitWord(word: string, initial: number): Word {
    const { pieces, ...way } = this.splitPieces(word, initial);
    const tokens = pieces.flatMap((piece) => this.separateComma(piece));
    return {
      ids: tokens.map(({ id }) => id),
      spans: tokens.flatMap(({ start, end }) => [start, end]),
      ...way,
    };
  }

  /** What SentencePiece's `encode` returns. */
  private splitPieces(input: string, initial: number): Omit<Word, keyof WordTokens> & { pieces: Piece[] } {
    const { normalizer, unigram, unknownId, separable } = this.options;
    const aligned = normalizer(new AlignedText(wellFormed(input)));
    let text = '';
    const source: number[] = [];
    for (const { index, 0: part } of aligned.text.matchAll(/[^ ]+/g)) {
      text += metaspace + part;
      // The mark has the range of the character it precedes.
      source.push(index);
      for (let unit = 0; unit < part.length; unit += 1) source.push(index + unit);
    }
    let length = text.length;
    while (!separable && text[length - 1] === metaspace) length -= 1;

    unigram.split(text, 0, length, initial);
    const pieces: Piece[] = [];
    const scores = Array.from(unigram.ids.subarray(0, unigram.count), (id) => unigram.score(id));
    for (let index = 0, at = 0; index < unigram.count; index += 1) {
      const id = unigram.ids[index] as number;
      while (id === unknownId && index + 1 < unigram.count && unigram.ids[index + 1] === unknownId) index += 1;
      const end = unigram.ends[index] as number;
      pieces.push({
        id,
        text: text.slice(at, end),
        start: aligned.start(source[at] as number),
        end: aligned.characterEnd(source[end - 1] as number),
      });
      at = end;
    }
    return { pieces, scores, margin: unigram.margin, sum: unigram.sum, length };
  }

  /**
   * `XLNetTokenizer._tokenize`: a piece that ends with digit and comma becomes what its digits are by themselves, and a comma.
   */
  private separateComma(piece: Piece): Piece[] {
    const characters = Array.from(piece.text);
    if (characters.at(-1) !== ',' || !pythonDigit.test(characters.at(-2) ?? '')) return [piece];
    const { pieces } = this.splitPieces(piece.text.slice(0, -1).replaceAll(metaspace, ''), 0);
    const texts = pieces.map(({ text }) => text);
    if (!piece.text.startsWith(metaspace) && texts[0]?.startsWith(metaspace)) {
      if (texts[0] === metaspace) texts.shift();
      else texts[0] = texts[0].slice(1);
    }
    const result: Piece[] = [];
    let { start } = piece;
    for (const text of texts) {
      const end = Math.min(piece.end - 1, start + text.replaceAll(metaspace, '').length);
      result.push({ id: this.idOf(text), text, start, end });
      start = end;
    }
    result.push({ id: this.idOf(','), text: ',', start, end: piece.end });
    return result;
  }

  private idOf(text: string): number {
    return this.options.idOf.get(text) ?? this.options.unknownId;
  }
}

function trim(text: string): string {
  let start = 0;
  let end = text.length;
  while (start < end && pythonSpace.test(text[start] as string)) start += 1;
  while (end > start && pythonSpace.test(text[end - 1] as string)) end -= 1;
  return text.slice(start, end);
}
