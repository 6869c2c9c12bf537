import { type AddedToken, AddedTokenMatcher } from './addedTokens';
import { AlignedText } from './alignedText';
import type { Normalizer } from './normalizers';
import { type Pipeline, metaspace, wellFormed } from './pipeline';
import { TokenSink, type WordTokens } from './tokenSink';
import { type Unigram, largestSum } from './unigram';
import { pythonDigit, pythonSpace } from './unicode';
import { WordCache, longestKnownWord } from './wordCache';

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

/** A text as pieces are cut from it. */
interface MarkedText {
  /** With a mark before every word. */
  text: string;
  /** By unit of `text`: the unit of `aligned` it comes from. The mark has the range of the character it precedes. */
  source: Int32Array;
  /** The input, normalized. */
  aligned: AlignedText;
}

interface Word extends WordTokens {
  /** The scores along the way taken, and how sure it was. */
  scores: readonly number[];
  margin: number;
  length: number;
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
  private readonly words = new WordCache((word) => this.knownWord(word));
  private readonly scratch = new TokenSink();
  /** For digits before a comma, while the word they stand in is still being read. */
  private readonly digits: Unigram;
  private readonly isBorder: (unit: number) => boolean;
  private readonly metaspaceId: number | undefined;

  constructor(private readonly options: SentencePieceOptions) {
    this.addedTokens = new AddedTokenMatcher(options.addedTokens);
    this.addedIds = new Set(options.addedTokens.map(({ id }) => id));
    this.metaspaceId = options.idOf.get(metaspace);
    this.digits = options.unigram.twin();
    const borders = new Uint8Array(65536);
    for (let unit = 0; unit < 65536; unit += 1) {
      if (options.removeSpace ? pythonSpace.test(String.fromCharCode(unit)) : unit === 0x20) borders[unit] = 1;
    }
    this.isBorder = (unit) => borders[unit] === 1;
  }

  encode(text: string, sink: TokenSink, enough: number): void {
    this.addedTokens.forEach(
      text,
      (from, to) => {
        if (this.options.separable) this.encodeWords(text, from, to, sink, enough);
        else this.encodeWhole(text, from, to, sink);
        return sink.count < enough;
      },
      (id, from, to) => sink.push(id, from, to) < enough,
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

  private encodeWords(text: string, from: number, to: number, sink: TokenSink, enough: number): void {
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
      const word = end - start > longestKnownWord ? undefined : this.words.get(text, start, end);
      const largest = Math.abs(sum) + (word?.length ?? 0) * unknownCost;
      // Every character on either way may add half a unit of float32's last place, in this run and in the one remembered.
      if (word === undefined || word.margin <= word.length * largest * 2 ** -22 || largest > largestSum) {
        this.splitWord(text.slice(start, end), sum, start, sink);
        ({ sum } = this.options.unigram);
      } else {
        for (let index = 0; index < word.scores.length; index += 1)
          sum = Math.fround(sum + (word.scores[index] as number));
        sink.pushAll(word, start);
      }
      start = end;
      if (sink.count >= enough && sink.lastId() !== this.metaspaceId) return;
    }
    // SentencePiece strips the end of the normalized text, where a U+2581 of the text itself counts as a space.
    while (sink.count > before && sink.lastId() === this.metaspaceId) sink.count -= 1;
  }

  private encodeWhole(text: string, from: number, to: number, sink: TokenSink): void {
    const stretch = Array.from(text.slice(from, to), (character) =>
      this.isBorder(character.charCodeAt(0)) ? ' ' : character,
    ).join('');
    this.splitWord(stretch, 0, from, sink);
  }

  private knownWord(word: string): Word {
    const { unigram } = this.options;
    const sink = this.scratch;
    sink.count = 0;
    const length = this.splitWord(word, 0, 0, sink);
    const scores = Array.from(unigram.ids.subarray(0, unigram.count), (id) => unigram.score(id));
    // Not by spreading: that makes objects that are slow to read, and words are read far more often than made.
    const { ids, spans } = sink.wordTokens();
    return { ids, spans, scores, margin: unigram.margin, length };
  }

  /**
   * Tokens by `XLNetTokenizer._tokenize`: a piece that ends with digit and comma becomes what its digits are by themselves, and a comma.
   * Ranges count from `base`, scores from `initial`. Returns the length of the normalized text.
   */
  private splitWord(word: string, initial: number, base: number, sink: TokenSink): number {
    const { text, source, aligned } = this.marked(word);
    const { unigram, unknownId } = this.options;
    const length = this.splitPieces(text, initial, unigram);
    forEachPiece(unigram, unknownId, (id, from, to) => {
      const start = base + aligned.start(source[from] as number);
      const end = base + aligned.characterEnd(source[to - 1] as number);
      if (endsWithDigitAndComma(text, from, to)) this.separateComma(text.slice(from, to), start, end, sink);
      else sink.push(id, start, end);
    });
    return length;
  }

  private splitPieces(text: string, initial: number, unigram: Unigram): number {
    let { length } = text;
    while (!this.options.separable && text[length - 1] === metaspace) length -= 1;
    unigram.split(text, 0, length, initial);
    return length;
  }

  private marked(input: string): MarkedText {
    const aligned = this.options.normalizer(new AlignedText(wellFormed(input)));
    const parts: string[] = [];
    const source = new Int32Array(aligned.length + (aligned.length >> 1) + 2);
    let count = 0;
    for (let start = 0; start < aligned.length;) {
      const space = aligned.text.indexOf(' ', start);
      const end = space < 0 ? aligned.length : space;
      if (end > start) {
        parts.push(metaspace, aligned.text.slice(start, end));
        source[count++] = start;
        for (let index = start; index < end; index += 1) source[count++] = index;
      }
      start = end + 1;
    }
    return { text: parts.join(''), source, aligned };
  }

  private separateComma(piece: string, spanStart: number, spanEnd: number, sink: TokenSink): void {
    const { text: digits } = this.marked(piece.slice(0, -1).replaceAll(metaspace, ''));
    this.splitPieces(digits, 0, this.digits);
    const texts: string[] = [];
    forEachPiece(this.digits, this.options.unknownId, (_, from, to) => texts.push(digits.slice(from, to)));
    if (!piece.startsWith(metaspace) && texts[0]?.startsWith(metaspace)) {
      if (texts[0] === metaspace) texts.shift();
      else texts[0] = texts[0].slice(1);
    }
    let start = spanStart;
    for (const text of texts) {
      const end = Math.min(spanEnd - 1, start + text.replaceAll(metaspace, '').length);
      sink.push(this.idOf(text), start, end);
      start = end;
    }
    sink.push(this.idOf(','), start, spanEnd);
  }

  private idOf(text: string): number {
    return this.options.idOf.get(text) ?? this.options.unknownId;
  }
}

/** The pieces of the last split, runs of unknown characters as one. */
function forEachPiece(
  { ids, ends, count }: Unigram,
  unknownId: number,
  visit: (id: number, from: number, to: number) => void,
): void {
  for (let index = 0, from = 0; index < count; index += 1) {
    const id = ids[index] as number;
    while (id === unknownId && index + 1 < count && ids[index + 1] === unknownId) index += 1;
    const to = ends[index] as number;
    visit(id, from, to);
    from = to;
  }
}

function endsWithDigitAndComma(text: string, from: number, to: number): boolean {
  if (text.charCodeAt(to - 1) !== comma || to - from < 2) return false;
  const low = text.charCodeAt(to - 2);
  const width = low >= 0xdc00 && low <= 0xdfff && to - from > 2 ? 2 : 1;
  return pythonDigit.test(text.slice(to - 1 - width, to - 1));
}

const comma = 0x2c;

function trim(text: string): string {
  let start = 0;
  let end = text.length;
  while (start < end && pythonSpace.test(text[start] as string)) start += 1;
  while (end > start && pythonSpace.test(text[end - 1] as string)) end -= 1;
  return text.slice(start, end);
}
