import { AlignedBuilder, type AlignedText } from './alignedText';
import type { CharTrie } from './charTrie';
import type { CharsMap } from './charsMap';
import type { Normalizer } from './normalizers';

/** What stands at a place of the text becomes `replacement`, up to `end`. */
interface Change {
  replacement: string;
  end: number;
}

/**
 * The normalization table as SentencePiece applies it (normalizer.cc): always the longest rule.
 * @param symbols strings that no rule touches: user-defined symbols of the vocabulary
 */
export function longestRules(map: CharsMap, symbols: CharTrie): Normalizer {
  return (input) =>
    applyRules(map, input, (text, index) => {
      const symbol = symbols.longest(text, index);
      if (symbol > 0) return { replacement: text.slice(index, index + symbol), end: index + symbol };
      const replacement = map.find(text, index, true);
      return replacement === undefined ? undefined : { replacement, end: index + map.length };
    });
}

/**
 * The normalization table as Hugging Face's `tokenizers` applies it (normalizers/precompiled.rs): the first, shortest rule, to grapheme
 * clusters of less than six bytes, of which the whole is replaced however little of it the rule has matched; else to single characters.
 */
export function graphemeRules(map: CharsMap): Normalizer {
  return (input) =>
    applyRules(map, input, (text, index) => {
      const replacement = map.find(text, index, false);
      if (replacement === undefined) return undefined;
      const own = index + ((text.codePointAt(index) as number) > 0xffff ? 2 : 1);
      const matched = index + map.length;
      const cluster = clusterEnd(text, index);
      if (cluster > own && matched <= cluster && Buffer.byteLength(text.slice(index, cluster)) < 6) {
        return { replacement, end: cluster };
      }
      return matched === own ? { replacement, end: own } : undefined;
    });
}

function applyRules(
  map: CharsMap,
  input: AlignedText,
  changeAt: (text: string, index: number) => Change | undefined,
): AlignedText {
  const { text } = input;
  let builder: AlignedBuilder | undefined;
  let kept = 0;
  for (let index = 0; index < text.length;) {
    const plain = map.isPlain(text.charCodeAt(index)) && !(text.charCodeAt(index + 1) >= 0x80);
    const change = plain ? undefined : changeAt(text, index);
    if (change === undefined) {
      index += (text.codePointAt(index) as number) > 0xffff ? 2 : 1;
      continue;
    }
    builder ??= new AlignedBuilder(input);
    builder.copy(kept, index);
    builder.replaceInStep(index, change.end, change.replacement);
    kept = index = change.end;
  }
  if (builder === undefined) return input;
  builder.copy(kept, text.length);
  return builder.finish();
}

const segmenter = new Intl.Segmenter('und', { granularity: 'grapheme' });

/** What decides where clusters of less than six bytes lie is never further away. */
const clusterWindow = 16;

/** Where the grapheme cluster that begins at `index` ends; `index` itself when none begins there. */
function clusterEnd(text: string, index: number): number {
  const [before, own, after] = [-1, 0, 1].map((distance) => text.charCodeAt(index + distance) || 0) as [
    number,
    number,
    number,
  ];
  // Between ASCII characters there is always a border, but in CR LF.
  if (before < 0x80 && own < 0x80 && after < 0x80) {
    if (own === 10 && before === 13) return index;
    return own === 13 && after === 10 ? index + 2 : index + 1;
  }
  const from = Math.max(0, index - clusterWindow);
  for (const { index: start, segment } of segmenter.segment(text.slice(from, index + clusterWindow))) {
    if (from + start === index) return index + segment.length;
    if (from + start > index) break;
  }
  return index;
}
