/**
 * Facts about characters, as the tokenizers that are followed know them. Theirs are older than those of the JavaScript engine, and a
 * vocabulary means what its own tokenizer made of the text.
 */

/** Python's `str.split()` and `str.strip()`. */
export const pythonSpace = /[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]/;

/** Of the character that ends at `index` > 0. */
export function codePointBefore(text: string, index: number): number {
  const low = text.charCodeAt(index - 1);
  return low >= 0xdc00 && low <= 0xdfff && index > 1 ? (text.codePointAt(index - 2) as number) : low;
}

/** Unicode's White_Space: Rust's `char::is_whitespace`. */
export function isWhitespace(unit: number): boolean {
  if (unit < 0x80) return unit === 0x20 || (unit >= 9 && unit <= 13);
  if (unit < 0x1680) return unit === 0x85 || unit === 0xa0;
  return (
    unit === 0x1680 ||
    (unit >= 0x2000 && unit <= 0x200a) ||
    unit === 0x2028 ||
    unit === 0x2029 ||
    unit === 0x202f ||
    unit === 0x205f ||
    unit === 0x3000
  );
}

/**
 * What StripAccents of Hugging Face's `tokenizers` removes: the general category M of the Unicode version that it was built with (crate
 * unicode-normalization-alignments 0.1.12). Ranges as distance from the end of the one before, and length where it exceeds one.
 */
const marks = ranges(
  'lc+33 7o+6 7c+18 2 2+1 2+1 2 21+a 1d+k h 2u+6 3+5 3+1 2+3 10 v+q 2k+a 1n+8 z+3 2+8 2+2 2+4 18+2 3d+d 2+w ' +
    '1j+2 2+h 2+6 b+1 u+2 1l 2+6 3+1 3+2 a b+1 u+2 1l 2+4 5+1 3+2 4 v+1 4 c+2 1l 2+7 2+2 2+2 l+1 u+2 1l 2+6 3+1 ' +
    '3+2 9+1 b+1 v 1o+4 4+2 2+3 a 15+3 1n+6 2+2 2+3 8+1 c+1 u+2 1l 2+6 2+2 2+3 8+1 c+1 u+2 1n+6 2+2 2+3 a b+1 v+1 ' +
    '1z 5+5 2 2+7 j+1 1q 3+6 d+7 2r 3+5 2+1 c+5 23+1 s 2 2 5+1 1e+j 2+1 6+a 2+z a 2t+j o+3 5+2 2+2 3+6 4+3 e+b 2 ' +
    'b+3 jk+2 qb+2 u+2 u+1 v+1 1t+v a 1a+2 3c+1 z 3b+b 5+b 64+4 1m+9 2+s 3 1d+e 1u+4 1c+g 13+8 d+2 v+c 1l+d 1d+j ' +
    '49+2 2+k 5 5+2 4+1 5j+1h 6+4 k1+w 2db+2 3y 2p+v ff+5 2y+1 n9x+3 2+9 x+1 29+1 7l 4 5 o+4 2h+1 1f+h r+h 1h+7 ' +
    'q+c 19+3 1c+d 11 1w+d d 9+1 1a+2 1f 2+2 3+1 6+1 2 16+4 6+1 6l+7 2+1 fn5 ki+f h+f r2 6b 46+4 1af+2 2+1 6+3 ' +
    '15+2 5 4m+1 10a+2 1i+e 1l+3 1a+a 1y+2 11+d 1r d+2 1d+d a+2 2o+b 7 4h+b m+3 1l 2+6 3+1 3+2 a b+1 3+6 4+4 5d+h ' +
    '2y+j 6k+6 3+8 s+1 2b+g 2z+c 2u+e zo+7 2+7 2b+l 2+d fga+4 1o+6 t7+19 h+3 f7v+1 43r+4 4+5 9+7 3+6 v+3 45+2 ' +
    '1j0+1i 5+1d 9 f n+4 2+e 11t+6 2+g 3+6 2+1 2+4 1pi+6 32+6 gzhy+6n',
);

/** Characters that have gained a compatibility decomposition since. */
const undecomposed = ranges('a2n n3m+3 ol huo r bh+4 2+15 2+8 2bt 2 9 3 1g 2+1 12o e7d+7 2f4+2 iuk+z 3sn+1p 3cv 22s+9');

export function isMark(character: string): boolean {
  return contains(marks, character.codePointAt(0) as number);
}

/** NFKD of one character, in the older version. */
export function decompose(character: string): string {
  const decomposed = character.normalize('NFKD');
  return decomposed !== character && contains(undecomposed, character.codePointAt(0) as number)
    ? character
    : decomposed;
}

/**
 * Whether a character's canonical combining class is not zero (Python's `unicodedata.combining`). The engine has no table of classes, but
 * sorts by them: only such a character changes places with U+0345, whose class, 240, is the highest there is.
 */
export function isCombining(character: string): boolean {
  const known = combining.get(character);
  if (known !== undefined) return known;
  const answer =
    character === '\u0345' || `\u0345${character}`.normalize('NFD') !== `\u0345${character.normalize('NFD')}`;
  if (combining.size < 4096) combining.set(character, answer);
  return answer;
}

const combining = new Map<string, boolean>();

/** Python's `str.isdigit` for the characters that survive NFKD: decimal digits, and digits that stand in no decimal system. */
export const pythonDigit =
  /^[\p{Nd}\u1369-\u1371\u19da\u24f5-\u24fd\u24ff\u2776-\u277e\u2780-\u2788\u278a-\u2792\u{10a40}-\u{10a43}\u{10e60}-\u{10e68}\u{11052}-\u{1105a}]$/u;

/** Sorted [first, last, first, last, …]; written as distance from the end of the range before, and length, in base 36. */
export function ranges(text: string): Int32Array {
  let end = 0;
  return Int32Array.from(
    text.split(' ').flatMap((range) => {
      const [distance, length = '0'] = range.split('+');
      const first = end + parseInt(distance as string, 36);
      end = first + parseInt(length, 36);
      return [first, end];
    }),
  );
}

export function contains(sorted: Int32Array, codePoint: number): boolean {
  let low = 0;
  let high = sorted.length / 2;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((sorted[2 * middle + 1] as number) < codePoint) low = middle + 1;
    else high = middle;
  }
  return low < sorted.length / 2 && (sorted[2 * low] as number) <= codePoint;
}
