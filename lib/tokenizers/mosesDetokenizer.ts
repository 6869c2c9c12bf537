/** Moses' detokenizer for English, as sacremoses 0.2.0 has it (tokenize.py, `MosesDetokenizer`). */
import { currencies, letters } from './mosesCharacters';
import { codePointBefore, contains, pythonSpace } from './unicode';

const spaces = new RegExp(`${pythonSpace.source}+`, 'g');

/** What XML's entities stand for, in Moses' order: the ampersand last. */
const entities: readonly [entity: string, character: string][] = [
  ['&bar;', '|'],
  ['&#124;', '|'],
  ['&lt;', '<'],
  ['&gt;', '>'],
  ['&bra;', '['],
  ['&ket;', ']'],
  ['&quot;', '"'],
  ['&apos;', "'"],
  ['&#91;', '['],
  ['&#93;', ']'],
  ['&amp;', '&'],
];

const punctuation = /^[,.?!:;\\%}\])]+$/;
const quotes = /^['"„“`]+$/;
const openers = '([{¿¡';

/** Text of words. */
export function mosesDetokenize(tokens: readonly string[]): string {
  let joined = ` ${tokens.join(' ')} `.replaceAll(' @-@ ', '-');
  if (joined.includes('&')) for (const [entity, character] of entities) joined = joined.replaceAll(entity, character);
  const words = joined.split(spaces).filter((word) => word !== '');
  const quoteCounts = new Map<string, number>();
  let text = '';
  let space = ' ';
  const attach = (word: string) => {
    text += word;
    space = ' ';
  };
  const openWith = (word: string) => {
    text += space + word;
    space = '';
  };
  words.forEach((word, index) => {
    const before = words[index - 1];
    if (isEastAsian(word.codePointAt(0) as number)) {
      if (before !== undefined && isEastAsian(codePointBefore(before, before.length))) attach(word);
      else attach(space + word);
    } else if (everyCharacter(word, isOpener)) openWith(word);
    else if (punctuation.test(word)) attach(word);
    else if (
      before !== undefined &&
      word.startsWith("'") &&
      word.length > 1 &&
      contains(letters, word.codePointAt(1) as number)
    ) {
      attach(word);
    } else if (quotes.test(word)) {
      const kind = /^[„“]+$/.test(word) ? '"' : word;
      const count = quoteCounts.get(kind) ?? 0;
      // "The Jones' house"
      const possessive = word === "'" && before?.endsWith('s') === true;
      if (count % 2 === 0 && possessive) attach(word);
      else {
        if (count % 2 === 0) openWith(word);
        else attach(word);
        quoteCounts.set(kind, count + 1);
      }
    } else attach(space + word);
  });
  return text.replace(/ {2,}/g, ' ').replace(/^ | $/g, '');
}

/** Inverts the splitting of numbers (`detokenize_numbers` of Hugging Face's Transformer-XL). */
export function joinNumbers(text: string): string {
  return text.replaceAll(' @,@ ', ',').replaceAll(' @.@ ', '.');
}

const isOpener = (code: number) => openers.includes(String.fromCodePoint(code)) || contains(currencies, code);

function everyCharacter(word: string, accepts: (code: number) => boolean): boolean {
  for (const character of word) if (!accepts(character.codePointAt(0) as number)) return false;
  return true;
}

/** Blocks of Chinese, Japanese and Korean characters (sacremoses, util.py, `CJKChars`). */
const eastAsian = Int32Array.of(
  ...[0x1100, 0x11ff, 0x2e80, 0xa4cf, 0xa840, 0xa87f, 0xac00, 0xd7af, 0xf900, 0xfaff, 0xfe30, 0xfe4f, 0xff65, 0xffdc],
  ...[0x17000, 0x18aff, 0x1b000, 0x1b12f, 0x1b170, 0x1b2ff, 0x20000, 0x2ffff],
);

const isEastAsian = (code: number) => contains(eastAsian, code);
