/**
 * Moses' tokenizer as sacremoses 0.2.0 has it (tokenize.py, `MosesTokenizer`), in the way Hugging Face's Transformer-XL calls it: English,
 * `aggressive_dash_splits`, nothing escaped. The text stays one string, in which spaces are put where words end; the steps and their order are
 * Moses'. Every pattern is of bounded length or one run of one class of characters: the time is linear in the text.
 */
import { AlignedBuilder, type AlignedText } from './alignedText';
import { codePointBefore, contains, pythonSpace } from './unicode';
import { digits, letters, lowerCase, marks, numbers } from './mosesCharacters';
import { nonbreakingPrefixes, numericPrefixes } from './mosesPrefixes';
import { type Normalizer, inOrder, substitute } from './normalizers';

type CharacterClass = (code: number) => boolean;

const isAlpha: CharacterClass = (code) =>
  code < 128
    ? (code >= 97 && code <= 122) || (code >= 65 && code <= 90)
    : contains(letters, code) || contains(marks, code);
const isAlnum: CharacterClass = (code) => isAlpha(code) || contains(digits, code);
const isNumeric: CharacterClass = (code) => contains(numbers, code);
const isDecimal: CharacterClass = (code) =>
  code < 128 ? code >= 48 && code <= 57 : /\p{Nd}/u.test(String.fromCodePoint(code));
const not =
  (accepts: CharacterClass): CharacterClass =>
  (code) =>
    !accepts(code);

/** White space of any kind and length is one space, at the ends nothing; control characters are nothing. */
const cleanSpaces = inOrder([
  substitute(new RegExp(pythonSpace.source.replace('\\x20', '\\x1f'), 'g'), ' '),
  substitute(/[\0-\x1f]/g, ''),
  substitute(/ {2,}/g, ' '),
  substitute(/^ | $/g, ''),
]);

const splitPunctuation = inOrder([
  padded(/[^A-Za-z0-9 .'`,-]/gu, not(isAlnum)),
  neighbours({ mark: '-', before: isAlnum, after: isAlnum, replacement: ' @-@ ' }),
  padded(/\.{2,}/g),
  // Commas stay inside numbers.
  neighbours({ mark: ',', before: not(isNumeric), replacement: ' , ' }),
  neighbours({ mark: ',', after: not(isNumeric), usesAfter: true, replacement: ' , ' }),
  substitute(/,$/g, ' , '),
  neighbours({ mark: "'", before: not(isAlpha), after: not(isAlpha), usesAfter: true, replacement: " ' " }),
  neighbours({
    mark: "'",
    before: (code) => !isAlpha(code) && !isNumeric(code),
    after: isAlpha,
    usesAfter: true,
    replacement: " ' ",
  }),
  neighbours({ mark: "'", before: isAlpha, after: not(isAlpha), usesAfter: true, replacement: " ' " }),
  neighbours({ mark: "'", before: isAlpha, after: isAlpha, usesAfter: true, replacement: " '" }),
  neighbours({ mark: "'", before: isNumeric, after: (code) => code === 0x73, usesAfter: true, replacement: " '" }),
  splitPeriods,
  substitute(/\.'(?= *$)/g, " . ' "),
]);

interface NeighbourRule {
  mark: string;
  /** The character before the mark, which no match before may have used. Default: none is needed. */
  before?: CharacterClass;
  after?: CharacterClass;
  /** Whether the character after the mark is used up by a match, so that it is not before the next mark. */
  usesAfter?: boolean;
  replacement: string;
}

/** Replaces a mark between certain characters, from left to right, as `re.sub` would with a pattern of all three. */
function neighbours({ mark, before, after, usesAfter = false, replacement }: NeighbourRule): Normalizer {
  return (input) => {
    const { text } = input;
    let builder: AlignedBuilder | undefined;
    let done = 0;
    let used = 0;
    for (let index = text.indexOf(mark); index >= 0; index = text.indexOf(mark, index + 1)) {
      if (before !== undefined && (index === used || !before(codePointBefore(text, index)))) continue;
      const next = text.codePointAt(index + 1);
      if (after !== undefined && (next === undefined || !after(next))) continue;
      builder ??= new AlignedBuilder(input);
      builder.copy(done, index);
      builder.replace(index, index + 1, replacement);
      done = index + 1;
      used = usesAfter ? done + ((next as number) > 0xffff ? 2 : 1) : done;
      if (usesAfter && next === mark.charCodeAt(0)) index += 1;
    }
    if (builder === undefined) return input;
    builder.copy(done, text.length);
    return builder.finish();
  };
}

/** Spaces around each match whose first character is of the class. */
function padded(pattern: RegExp, accepts: CharacterClass = () => true): Normalizer {
  return (input) => {
    let builder: AlignedBuilder | undefined;
    let done = 0;
    for (const { index, 0: match } of input.text.matchAll(pattern)) {
      if (!accepts(match.codePointAt(0) as number)) continue;
      builder ??= new AlignedBuilder(input);
      const end = index + match.length;
      builder.copy(done, index);
      builder.replace(index, end, ' ');
      builder.copy(index, end);
      builder.replace(index, end, ' ');
      done = end;
    }
    if (builder === undefined) return input;
    builder.copy(done, input.length);
    return builder.finish();
  };
}

/** A period ends a sentence, and is a word then, unless it belongs to an abbreviation or the next word begins with a small letter. */
function splitPeriods(input: AlignedText): AlignedText {
  const { text } = input;
  let builder: AlignedBuilder | undefined;
  let done = 0;
  let wordStart = 0;
  for (const { index } of text.matchAll(/(?<=[^ .])\.(?= |$)/g)) {
    wordStart = Math.max(wordStart, text.lastIndexOf(' ', index) + 1);
    let next = index + 1;
    while (text[next] === ' ') next += 1;
    if (keepsPeriod(text.slice(wordStart, index), text, next)) continue;
    builder ??= new AlignedBuilder(input);
    builder.copy(done, index);
    builder.replace(index, index + 1, ' .');
    done = index + 1;
  }
  if (builder === undefined) return input;
  builder.copy(done, text.length);
  return builder.finish();
}

/** @param next where the next word begins; the end of the text where there is none */
function keepsPeriod(word: string, text: string, next: number): boolean {
  if (word.includes('.') && hasLetter(word)) return true;
  if (nonbreakingPrefixes.has(word)) return true;
  if (next === text.length) return false;
  return (
    contains(lowerCase, text.codePointAt(next) as number) ||
    (numericPrefixes.has(word) && /[0-9]/.test(text[next] as string))
  );
}

function hasLetter(word: string): boolean {
  for (const character of word) if (isAlpha(character.codePointAt(0) as number)) return true;
  return false;
}

/** Numbers are split at commas and points, which are marked (`tokenize_numbers` of Hugging Face's Transformer-XL). */
export const splitNumbers = inOrder([
  neighbours({ mark: ',', before: isDecimal, after: isDecimal, replacement: ' @,@ ' }),
  neighbours({ mark: '.', before: isDecimal, after: isDecimal, replacement: ' @.@ ' }),
]);

/** Moses hides runs of periods behind such words, and takes a word of the text for one. */
const restorePeriods: Normalizer = (input) => {
  if (!input.text.includes('DOTMULTI')) return input;
  const builder = new AlignedBuilder(input);
  let done = 0;
  for (const { index, 0: match, 1: end } of input.text.matchAll(/(?:DOT)+(MULTI)?/g)) {
    if (end === undefined) continue;
    builder.copy(done, index);
    done = index + match.length;
    builder.replace(index, done, '.'.repeat((match.length - end.length) / 3));
  }
  builder.copy(done, input.length);
  return builder.finish();
};

/**
 * Splits texts into words, which have spaces between them in the result.
 * @param neverSplit found whatever their case, and kept whole
 */
export function mosesTokenizer(neverSplit: readonly string[]): Normalizer {
  const byLength = [...neverSplit].sort((a, b) => b.length - a.length);
  const pattern = byLength.length > 0 ? new RegExp(byLength.map(literal).join('|'), 'giu') : null;
  return (input) => {
    const text = cleanSpaces(input);
    const kept = pattern === null ? null : hide(text, pattern);
    if (kept === null) return restorePeriods(splitPunctuation(text));
    const { hidden, reveal } = kept;
    return restorePeriods(reveal(splitPunctuation(hidden)));
  };
}

const literal = (text: string) => text.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&');

/** Puts words of letters and digits, which no rule splits, in the place of matches. Null where there are none. */
function hide(input: AlignedText, pattern: RegExp): { hidden: AlignedText; reveal: Normalizer } | null {
  if (input.text.search(pattern) < 0) return null;
  const stem = unusedStem(input.text);
  const texts: string[] = [];
  const indices = new Map<string, number>();
  const builder = new AlignedBuilder(input);
  let done = 0;
  for (const { index, 0: match } of input.text.matchAll(pattern)) {
    if (!indices.has(match)) indices.set(match, texts.push(match) - 1);
    builder.copy(done, index);
    done = index + match.length;
    builder.replace(index, done, stem + String(indices.get(match)).padStart(indexDigits, '0'));
  }
  builder.copy(done, input.length);
  const placeholder = new RegExp(`${stem}(\\d{${indexDigits}})`, 'g');
  const reveal: Normalizer = (split) => {
    const restored = new AlignedBuilder(split);
    let end = 0;
    for (const { index, 0: match, 1: number } of split.text.matchAll(placeholder)) {
      restored.copy(end, index);
      end = index + match.length;
      restored.replace(index, end, texts[Number(number)] as string);
    }
    restored.copy(end, split.length);
    return restored.finish();
  };
  return { hidden: builder.finish(), reveal };
}

/** Ample for the spellings of one text. */
const indexDigits = 9;

/** A word that the text does not have: one letter longer than any of its kind there. */
function unusedStem(text: string): string {
  const base = 'THISISPROTECTED';
  let stem = base;
  for (const [match] of text.matchAll(/THISISPROTECTEDX*/g)) if (match.length >= stem.length) stem = `${match}X`;
  return stem;
}
