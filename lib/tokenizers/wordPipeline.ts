import { type AddedToken, AddedTokenMatcher } from './addedTokens';
import { AlignedBuilder, AlignedText } from './alignedText';
import { joinNumbers, mosesDetokenize } from './mosesDetokenizer';
import { mosesTokenizer, splitNumbers } from './mosesTokenizer';
import { normalizePunctuation } from './mosesPunctuation';
import { type Normalizer, inOrder } from './normalizers';
import { type Pipeline, wellFormed } from './pipeline';
import type { TokenSink } from './tokenSink';
import { pythonSpace } from './unicode';
import type { WordVocabulary } from './wordVocabulary';

/** How words are found: by Moses' rules, between white space, or each character by itself. */
export type WordSplitting = 'moses' | 'spaces' | 'characters';

export interface WordPipelineOptions {
  /** By id, added tokens included. */
  pieces: readonly string[];
  vocabulary: WordVocabulary;
  addedTokens: readonly AddedToken[];
  /** What Moses' rules leave whole, whatever its case. */
  neverSplit: readonly string[];
  lowerCase: boolean;
  /** Decoded text loses the spaces before punctuation, as in older versions of transformers. */
  cleanUpSpaces: boolean;
}

/** Text in words: added tokens, then words as Hugging Face's `TransfoXLTokenizer` finds them. */
export class WordPipeline implements Pipeline {
  private readonly matcher: AddedTokenMatcher;
  private readonly moses: Normalizer;
  /** Tokens that are apart from the words beside them in decoded text. */
  private readonly apart: ReadonlySet<number>;

  constructor(
    private readonly options: WordPipelineOptions,
    private readonly splitting: WordSplitting = 'moses',
  ) {
    const { addedTokens, vocabulary, neverSplit } = options;
    this.matcher = new AddedTokenMatcher(addedTokens);
    this.moses = inOrder([normalizePunctuation, mosesTokenizer(neverSplit), splitNumbers]);
    this.apart = new Set(
      addedTokens.filter(({ id, special }) => !special || id >= vocabulary.symbols.length).map(({ id }) => id),
    );
  }

  /** The same vocabulary, with words found in another way. */
  with(splitting: WordSplitting): WordPipeline {
    return splitting === this.splitting ? this : new WordPipeline(this.options, splitting);
  }

  encode(text: string, sink: TokenSink): void {
    const given = new AlignedText(wellFormed(text));
    const aligned = this.options.lowerCase ? this.lower(given) : given;
    this.matcher.forEach(
      aligned.text,
      (from, to) => this.encodeStretch(aligned, from, to, sink),
      (id, from, to) => sink.push(id, aligned.start(from), aligned.end(to - 1)),
    );
  }

  decode(ids: readonly number[]): string {
    const { pieces, cleanUpSpaces } = this.options;
    const parts: string[] = [];
    for (let start = 0; start < ids.length;) {
      let end = start;
      while (end < ids.length && !this.apart.has(ids[end] as number)) end += 1;
      if (end > start) {
        const words = ids.slice(start, end).map((id) => pieces[id] as string);
        const text = stripSpaces(joinNumbers(mosesDetokenize(words)));
        // Text without words, before a token and at the end, is treated as in Hugging Face.
        if (text !== '' || end === ids.length) parts.push(text);
      }
      if (end < ids.length) parts.push(pieces[ids[end] as number] as string);
      start = end + 1;
    }
    const text = parts.join(' ');
    return cleanUpSpaces ? cleanUp(text) : text;
  }

  /** Small letters, but for added tokens. */
  private lower(input: AlignedText): AlignedText {
    const builder = new AlignedBuilder(input);
    this.matcher.forEach(
      input.text,
      (from, to) => {
        for (let index = from; index < to;) {
          const end = index + ((input.text.codePointAt(index) as number) > 0xffff ? 2 : 1);
          builder.replace(index, end, input.text.slice(index, end).toLowerCase());
          index = end;
        }
      },
      (_, from, to) => builder.copy(from, to),
    );
    return builder.finish();
  }

  private encodeStretch(input: AlignedText, from: number, to: number, sink: TokenSink): void {
    let [start, end] = [from, to];
    while (start < end && pythonSpace.test(input.text[start] as string)) start += 1;
    while (start < end && pythonSpace.test(input.text[end - 1] as string)) end -= 1;
    if (this.splitting === 'characters') this.encodeCharacters(input, start, end, sink);
    else this.encodeWords(input, start, end, sink);
  }

  private encodeWords(input: AlignedText, from: number, to: number, sink: TokenSink): void {
    const builder = new AlignedBuilder(input);
    builder.copy(from, to);
    const words = this.splitting === 'moses' ? this.moses(builder.finish()) : builder.finish();
    for (const { index, 0: word } of words.text.matchAll(wordPattern)) {
      const last = index + word.length - 1;
      sink.push(this.idOf(word), words.start(index), words.end(last));
    }
  }

  private encodeCharacters(input: AlignedText, from: number, to: number, sink: TokenSink): void {
    for (let index = from; index < to;) {
      const character = String.fromCodePoint(input.text.codePointAt(index) as number);
      sink.push(this.idOf(character), input.start(index), input.end(index + character.length - 1));
      index += character.length;
    }
  }

  private idOf(word: string): number {
    const { idOf, unknownId } = this.options.vocabulary;
    return idOf.get(word) ?? unknownId;
  }
}

const wordPattern = new RegExp(pythonSpace.source.replace('[', '[^') + '+', 'g');

const stripSpaces = (text: string) => text.replace(/^ +/, '').replace(/ $/, '');

/** `clean_up_tokenization` of transformers. */
function cleanUp(text: string): string {
  const rules: [string, string][] = [
    [' .', '.'],
    [' ?', '?'],
    [' !', '!'],
    [' ,', ','],
    [" ' ", "'"],
    [" n't", "n't"],
    [" 'm", "'m"],
    [" 's", "'s"],
    [" 've", "'ve"],
    [" 're", "'re"],
  ];
  return rules.reduce((cleaned, [from, to]) => cleaned.replaceAll(from, to), text);
}
