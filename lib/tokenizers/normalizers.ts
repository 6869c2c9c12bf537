import { AlignedBuilder, type AlignedText } from './alignedText';
import { decompose, isCombining, isMark } from './unicode';

/** One step of normalization. Returns its argument when nothing changes. */
export type Normalizer = (input: AlignedText) => AlignedText;

export function inOrder(steps: readonly Normalizer[]): Normalizer {
  return (input) => steps.reduce((text, step) => step(text), input);
}

/** Every occurrence of a string. The replacement is aligned with the last character that it replaces, as in Hugging Face. */
export function replaceLiteral(pattern: string, replacement: string): Normalizer {
  return (input) => {
    let found = input.text.indexOf(pattern);
    if (found < 0) return input;
    const builder = new AlignedBuilder(input);
    let done = 0;
    for (; found >= 0; found = input.text.indexOf(pattern, done)) {
      builder.copy(done, found);
      done = found + pattern.length;
      builder.replace(lastCharacter(input.text, done), done, replacement);
    }
    builder.copy(done, input.length);
    return builder.finish();
  };
}

/**
 * Python's `re.sub`: what matches becomes `replacement`, except for groups named `before` and `after` at the ends of the pattern, which
 * stay. As there, a character that one match has used is not there for the next.
 * @param pattern global, and not matching nothing between its groups
 */
export function substitute(pattern: RegExp, replacement: string): Normalizer {
  return (input) => {
    let builder: AlignedBuilder | undefined;
    let done = 0;
    for (const match of input.text.matchAll(pattern)) {
      builder ??= new AlignedBuilder(input);
      const { before = '', after = '' } = match.groups ?? {};
      const from = match.index + before.length;
      builder.copy(done, from);
      done = match.index + match[0].length - after.length;
      builder.replace(from, done, replacement);
    }
    if (builder === undefined) return input;
    builder.copy(done, input.length);
    return builder.finish();
  };
}

/** Runs of spaces become one: the last. */
export const collapseSpaces: Normalizer = (input) => {
  if (!input.text.includes('  ')) return input;
  const builder = new AlignedBuilder(input);
  let done = 0;
  for (const match of input.text.matchAll(/ {2,}/g)) {
    builder.copy(done, match.index);
    done = match.index + match[0].length - 1;
  }
  builder.copy(done, input.length);
  return builder.finish();
};

/** NFKD, then without marks, as the normalizers of these names in a tokenizer.json. The order of marks does not matter: none is left. */
export const decomposeAndStripAccents = mapCharacters((character) => without(decompose(character), isMark), 0x80);

export const stripAccents = mapCharacters((character) => without(character, isMark), 0x80);

/** NFKD, then without combining characters, as Hugging Face's Python tokenizer. */
export const decomposeAndDropCombining = mapCharacters(
  (character) => without(character.normalize('NFKD'), isCombining),
  0x80,
);

/** Character by character, so that a sigma at the end of a word is as any other, as in Hugging Face's `tokenizers`. */
export const lowercase = mapCharacters((character) => character.toLowerCase(), 0);

/** Applies a function to each character from code point `first` on. */
function mapCharacters(change: (character: string) => string, first: number): Normalizer {
  return (input) => {
    const { text } = input;
    let builder: AlignedBuilder | undefined;
    let kept = 0;
    for (let index = 0; index < text.length;) {
      const code = text.codePointAt(index) as number;
      const next = index + (code > 0xffff ? 2 : 1);
      if (code >= first) {
        const character = text.slice(index, next);
        const changed = change(character);
        if (changed !== character) {
          builder ??= new AlignedBuilder(input);
          builder.copy(kept, index);
          builder.replace(index, next, changed);
          kept = next;
        }
      }
      index = next;
    }
    if (builder === undefined) return input;
    builder.copy(kept, text.length);
    return builder.finish();
  };
}

function without(text: string, drops: (character: string) => boolean): string {
  let result = '';
  for (const character of text) if (!drops(character)) result += character;
  return result;
}

function lastCharacter(text: string, end: number): number {
  const low = text.charCodeAt(end - 1);
  return low >= 0xdc00 && low <= 0xdfff && end > 1 ? end - 2 : end - 1;
}
