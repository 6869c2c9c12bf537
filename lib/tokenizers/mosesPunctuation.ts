/**
 * Moses' normalization of punctuation, as sacremoses 0.2.0 has it for English (normalize.py, `MosesPunctNormalizer` with its defaults).
 * Every pattern is of bounded length or one run of one class of characters: the time is linear in the text.
 */
import { AlignedBuilder } from './alignedText';
import { type Normalizer, inOrder, substitute } from './normalizers';

const oneSpace = substitute(/ {2,}/g, ' ');

/** Rules for typographic characters, which most texts can pass by. */
function beyondAscii(...rules: [RegExp, string][]): Normalizer {
  const normalizer = inOrder(rules.map(([pattern, replacement]) => substitute(pattern, replacement)));
  return (input) => (/^[\0-\x7f]*$/.test(input.text) ? input : normalizer(input));
}

/** `".` becomes `."`. */
const quoteAfterComma: Normalizer = (input) => {
  let builder: AlignedBuilder | undefined;
  let done = 0;
  for (const { index, 0: match } of input.text.matchAll(/"[,.]+/g)) {
    builder ??= new AlignedBuilder(input);
    builder.copy(done, index);
    done = index + match.length;
    builder.copy(index + 1, done);
    builder.copy(index, index + 1);
  }
  if (builder === undefined) return input;
  builder.copy(done, input.length);
  return builder.finish();
};

export const normalizePunctuation: Normalizer = inOrder([
  substitute(/\r/g, ''),
  substitute(/\(/g, ' ('),
  substitute(/\)/g, ') '),
  oneSpace,
  substitute(/(?<before>\)) (?<after>[.!:?;,])/g, ''),
  substitute(/(?<before>\() /g, ''),
  substitute(/ (?<after>\))/g, ''),
  substitute(/(?<before>\p{Nd}) (?<after>%)/gu, ''),
  substitute(/ (?<after>:)/g, ''),
  substitute(/ (?<after>;)/g, ''),
  substitute(/`/g, "'"),
  substitute(/''/g, ' " '),
  beyondAscii([/[„“”]/g, '"'], [/–/g, '-'], [/—/g, ' - ']),
  oneSpace,
  beyondAscii([/[´‘‚’]/g, "'"]),
  substitute(/''/g, '"'),
  beyondAscii(
    [/…/g, '...'],
    [/\xa0«\xa0/g, '"'],
    [/«\xa0/g, '"'],
    [/«/g, '"'],
    [/\xa0»\xa0/g, '"'],
    [/\xa0»/g, '"'],
    [/»/g, '"'],
    [/\xa0(?<after>%)/g, ''],
    [/(?<before>nº)\xa0/g, ' '],
    [/\xa0(?<after>:)/g, ''],
    [/\xa0(?<after>ºC)/g, ' '],
    [/\xa0(?<after>cm)/g, ' '],
    [/\xa0(?<after>\?)/g, ''],
    [/\xa0(?<after>!)/g, ''],
    [/\xa0(?<after>;)/g, ''],
    [/(?<before>,)\xa0/g, ' '],
  ),
  oneSpace,
  quoteAfterComma,
  beyondAscii([/(?<before>\p{Nd})\xa0(?<after>\p{Nd})/gu, '.']),
]);
