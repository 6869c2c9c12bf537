import { type AddedToken, AddedTokenMatcher } from './addedTokens';
import { AlignedText } from './alignedText';
import type { Normalizer } from './normalizers';
import { type Pipeline, metaspace, wellFormed } from './pipeline';
import { TokenSink, type WordTokens } from './tokenSink';
import type { Unigram } from './unigram';
import { isWhitespace } from './unicode';
import { WordCache, longestKnownWord } from './wordCache';

export interface MetaspaceOptions {
  normalizer: Normalizer;
  /** The normalizer ends by making one space of several. */
  collapsesSpaces: boolean;
  /** Whether normalizing the words between spaces equals normalizing the text. */
  separable: boolean;
  /** Cut at white space before words get their U+2581. */
  whitespaceSplit: boolean;
  /** Texts that do not start with U+2581 get one. */
  prepend: boolean;
  unigram: Unigram;
  unknownId: number;
  addedTokens: readonly AddedToken[];
  /** By id. */
  pieces: readonly string[];
}

/** Where the space at the end of a word stands, whose token depends on what follows; null when there is none. */
type TrailingSpace = readonly [start: number, end: number] | null;

interface Word extends WordTokens {
  trailingSpace: TrailingSpace;
}

/**
 * The steps of a tokenizer.json with a unigram model: added tokens, normalization, U+2581 for spaces, the most probable pieces, as
 * Hugging Face's `tokenizers` takes them.
 *
 * Words are split one by one and remembered. That is exact, since pieces never cross a space and no normalizer looks across one; only a
 * run of spaces needs care, because it becomes one.
 */
export class MetaspacePipeline implements Pipeline {
  private readonly rawTokens: AddedTokenMatcher;
  private readonly normalizedTokens: AddedTokenMatcher;
  private readonly words = new WordCache((word) => this.knownWord(word));
  /** By code unit: 1 where a word may begin. */
  private readonly borders = new Uint8Array(128);
  /** What a space at the end of a text becomes. */
  private readonly lastSpace: readonly number[];
  private readonly scratch = new TokenSink();
  /** Whether an added token that comes to light further on may take words that came before. */
  private readonly crossesWords: boolean;

  constructor(private readonly options: MetaspaceOptions) {
    const { addedTokens, normalizer, separable, whitespaceSplit } = options;
    this.rawTokens = new AddedTokenMatcher(addedTokens.filter(({ normalized }) => !normalized));
    this.normalizedTokens = new AddedTokenMatcher(addedTokens.filter(({ normalized }) => normalized));
    this.crossesWords = addedTokens.some(({ normalized, content }) => normalized && /[\s\u2581]/.test(content));
    for (const character of separable ? ' \n\t' : '') {
      const { text } = normalizer(new AlignedText(character));
      const border = whitespaceSplit ? text.length === 1 && isWhitespace(text.charCodeAt(0)) : text === ' ';
      if (border) this.borders[character.charCodeAt(0)] = 1;
    }
    this.splitText(new AlignedText(metaspace), 0, 1, 0, this.scratch);
    this.lastSpace = this.scratch.wordTokens().ids;
  }

  encode(text: string, sink: TokenSink, enough: number): void {
    const stop = this.crossesWords ? Infinity : enough;
    this.rawTokens.forEach(
      text,
      (from, to) => {
        this.encodeStretch(text, from, to, sink, stop);
        return sink.count < stop;
      },
      (id, from, to) => sink.push(id, from, to) < stop,
    );
  }

  decode(ids: readonly number[]): string {
    const pieces = ids.map((id) => this.options.pieces[id] as string);
    const first = this.options.prepend ? pieces[0]?.replaceAll(metaspace, '') : pieces[0];
    return [first ?? '', ...pieces.slice(1)].join('').replaceAll(metaspace, ' ');
  }

  private encodeStretch(text: string, from: number, to: number, sink: TokenSink, enough: number): void {
    const before = sink.count;
    let space: TrailingSpace | undefined = null;
    for (let start = from; start < to;) {
      const end = this.wordEnd(text, start, to);
      space = this.encodeWord(text, start, end, sink);
      if (space === undefined) {
        sink.count = before;
        this.encodeWhole(text, from, to, sink, enough);
        return;
      }
      if (sink.count >= enough) return;
      start = end;
    }
    // A word that followed began with a space, and one of the two remained.
    if (space) for (const id of this.lastSpace) sink.push(id, space[0], space[1]);
  }

  /** Undefined when an added token has come to light, which may take spaces of the words beside it. */
  private encodeWord(text: string, start: number, end: number, sink: TokenSink): TrailingSpace | undefined {
    if (end - start > longestKnownWord) return this.splitWord(text.slice(start, end), start, sink);
    const word = this.words.get(text, start, end);
    if (word === undefined) return undefined;
    sink.pushAll(word, start);
    return word.trailingSpace && [start + word.trailingSpace[0], start + word.trailingSpace[1]];
  }

  private wordEnd(text: string, start: number, to: number): number {
    const { borders } = this;
    for (let index = start + 1; index < to; index += 1) {
      const unit = text.charCodeAt(index);
      // CR LF is one character to the normalization table.
      if (unit < 128 && borders[unit] && !(unit === 10 && text.charCodeAt(index - 1) === 13)) return index;
    }
    return to;
  }

  private knownWord(word: string): Word | undefined {
    const sink = this.scratch;
    sink.count = 0;
    const trailingSpace = this.splitWord(word, 0, sink);
    if (trailingSpace === undefined) return undefined;
    // Not by spreading: that makes objects that are slow to read, and words are read far more often than made.
    const { ids, spans } = sink.wordTokens();
    return { ids, spans, trailingSpace };
  }

  /** Ranges count from `base`. Undefined as for `encodeWord`. */
  private splitWord(word: string, base: number, sink: TokenSink): TrailingSpace | undefined {
    const aligned = this.options.normalizer(new AlignedText(wellFormed(word)));
    if (this.normalizedTokens.occursIn(aligned.text)) return undefined;
    const { collapsesSpaces, whitespaceSplit } = this.options;
    const last = aligned.length - 1;
    const heldBack = collapsesSpaces && !whitespaceSplit && aligned.text[last] === ' ';
    this.splitText(aligned, 0, heldBack ? last : last + 1, base, sink);
    return heldBack ? [base + aligned.start(last), base + aligned.end(last)] : null;
  }

  private encodeWhole(text: string, from: number, to: number, sink: TokenSink, enough: number): void {
    const aligned = this.options.normalizer(new AlignedText(wellFormed(text.slice(from, to))));
    this.normalizedTokens.forEach(
      aligned.text,
      (start, end) => {
        this.splitText(aligned, start, end, from, sink);
        return sink.count < enough;
      },
      (id, start, end) => sink.push(id, from + aligned.start(start), from + aligned.end(end - 1)) < enough,
    );
  }

  private splitText(aligned: AlignedText, from: number, to: number, base: number, sink: TokenSink): void {
    if (!this.options.whitespaceSplit) {
      this.splitAtMetaspace(aligned, from, to, base, sink);
      return;
    }
    for (let start = from; start < to;) {
      let end = start;
      while (end < to && !isWhitespace(aligned.text.charCodeAt(end))) end += 1;
      this.splitAtMetaspace(aligned, start, end, base, sink);
      start = end + 1;
    }
  }

  private splitAtMetaspace(aligned: AlignedText, from: number, to: number, base: number, sink: TokenSink): void {
    if (from >= to) return;
    const { unigram, unknownId, prepend } = this.options;
    let text = aligned.text.slice(from, to).replaceAll(' ', metaspace);
    const shift = prepend && !text.startsWith(metaspace) ? 1 : 0;
    if (shift === 1) text = metaspace + text;
    // The mark put before a text has the range of the character it precedes.
    const source = (index: number) => from + Math.max(0, index - shift);

    for (let start = 0; start < text.length;) {
      const next = text.indexOf(metaspace, start + 1);
      const end = next < 0 ? text.length : next;
      unigram.split(text, start, end);
      for (let piece = 0, at = start; piece < unigram.count; piece += 1) {
        const id = unigram.ids[piece] as number;
        // Characters outside the vocabulary that follow each other are one token.
        while (id === unknownId && piece + 1 < unigram.count && unigram.ids[piece + 1] === unknownId) piece += 1;
        const pieceEnd = unigram.ends[piece] as number;
        sink.push(id, base + aligned.start(source(at)), base + aligned.characterEnd(source(pieceEnd - 1)));
        at = pieceEnd;
      }
      start = end;
    }
  }
}
