/** XLNet's tokenizer against the Rust library that its tokenizer.json was made for, on random Unicode. */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { type Normalizer, Tokenizer as Oracle } from 'tokenizers';
import { XLNetTokenizer } from '../../lib';
import { repository } from '../support/cli';
import { fixturePath, readJson } from '../support/fixtures';
import { TestRandom } from '../support/random';

const spaces = [
  ' ',
  ' ',
  ' ',
  '  ',
  '\n',
  '\r\n',
  '\r',
  '\t',
  '\xa0',
  '\u2003',
  '\u3000',
  '\u200b',
  '\u2028',
  '\x85',
  '\x1c',
  '▁',
];
const special = [
  '<sep>',
  '<cls>',
  '<mask>',
  ' <mask>',
  '<pad>',
  '<eop>',
  '<eod>',
  '<unk>',
  '<s>',
  '</s>',
  '＜mask＞',
  '<mas',
  '``',
  "''",
];
const tricky = [
  ...[
    '\u0301',
    '\u0345',
    '\u0316\u0301',
    'e\u0301',
    'q\u0323\u0307',
    '\u1100\u1161\u11a8',
    '각',
    'が',
    'か\u3099',
    'ﬁ',
    '½',
    '²',
    'ﷺ',
    'İ',
    'ß',
  ],
  ...[
    '\u200c',
    '\u200d',
    '👩\u200d👩\u200d👧',
    '👍🏽',
    '🇩🇪',
    '\u0e33',
    'ｶﾞ',
    'हिन्दी',
    'مرحبا',
    '日本語',
    '£5',
    '€',
    '–',
    '…',
    '”',
    '㍿',
    '𝕏',
    '٣,',
  ],
];
const letters = ' etaoinshrdlu,.-\'"()0123456789ETAOIN';

/** Of any plane; no surrogates. */
function anyCharacter(random: TestRandom): string {
  const planes = [0x3000, 0x10000, 0x20000, 0x110000];
  const code = random.integer(1, random.pick(planes) - 1);
  return code >= 0xd800 && code <= 0xdfff ? 'x' : String.fromCodePoint(code);
}

function part(random: TestRandom, pieces: readonly string[]): string {
  const many = (count: number, make: () => string) => Array.from({ length: count }, make).join('');
  const kind = random.uniform();
  if (kind < 0.3) return random.pick(pieces);
  if (kind < 0.45) return many(random.integer(1, 12), () => random.pick([...letters]));
  if (kind < 0.55)
    return (
      random.integer(0, 10 ** random.integer(1, 7)).toLocaleString('en-US') + random.pick(['', ',', ', ', '.', ',x'])
    );
  if (kind < 0.68) return random.pick(spaces);
  if (kind < 0.74) return random.pick(special);
  if (kind < 0.86) return random.pick(tricky);
  if (kind < 0.89) return random.pick(['x', 'ab', '9', '日', '.', ' ', '\u0301']).repeat(random.integer(2, 40));
  return many(random.integer(1, 4), () => anyCharacter(random));
}

interface RealGolden {
  text: string;
  pair?: string;
  ids: number[];
  type_ids: number[];
  tokens: string[];
  offsets?: [number, number][];
}

interface Kept {
  character: string;
  /** In UTF-16 units of the whole text. */
  start: number;
  end: number;
}

function keptCharacters(text: string, isDeleted: (character: string) => boolean): Kept[] {
  let end = 0;
  return Array.from(text, (character) => {
    const start = end;
    end += character.length;
    return { character, start, end };
  }).filter(({ character }) => !isDeleted(character));
}

/**
 * Compares ids, tokens, types, offsets and decoding. Where the normalization table deletes characters, the oracle's ranges of what follows are
 * off by them at the beginning of a text or after an added token, though its tokens are those of the text without them; so its ranges are
 * taken from that text, and counted in the given one.
 */
async function compare(folder: string, count: number, seed: number): Promise<void> {
  const oracle = Oracle.fromFile(path.join(folder, 'tokenizer.json'));
  const ours = await XLNetTokenizer.fromFolder(folder);
  const normalizer = oracle.getNormalizer() as Normalizer;
  const isDeleted = (character: string) => !/\p{M}/u.test(character) && normalizer.normalizeString(character) === '';
  const pieces = Array.from({ length: ours.vocabSize }, (_, id) => ours.idToToken(id).replaceAll('▁', ' '));
  const random = new TestRandom(seed);
  for (let index = 0; index < count; index += 1) {
    const text = Array.from({ length: random.integer(1, 12) }, () => part(random, pieces)).join('');
    const expected = await oracle.encode(text);
    const kept = keptCharacters(text, isDeleted);
    const ranges = await oracle.encode(kept.map(({ character }) => character).join(''));
    const { ids, tokens, offsets, typeIds } = ours.encode(text);
    expect({ text, ids: [...ids], tokens, typeIds: [...typeIds], offsets }).toEqual({
      text,
      ids: expected.getIds(),
      tokens: expected.getIds().map((id) => oracle.idToToken(id)),
      typeIds: expected.getTypeIds(),
      offsets: ranges
        .getOffsets()
        .map(([start, end]) => (end === 0 ? [0, 0] : [kept[start as number]?.start, kept[(end as number) - 1]?.end])),
    });
    expect({ text, decoded: ours.decode(ids, { skipSpecialTokens: true }) }).toEqual({
      text,
      decoded: await oracle.decode([...ids], true),
    });
  }
}

test('3000 random texts, the small vocabulary', () => compare(fixturePath('tokenizers', 'xlnet-small'), 3000, 1));

// The real vocabulary is too large for this repository; where it lies beside it, it is tried as well.
const real = path.join(repository, '..', 'shared', 'fixtures', 'tokenizers', 'xlnet-base-cased');
if (existsSync(real)) {
  test('3000 random texts, the vocabulary of xlnet-base-cased', () => compare(real, 3000, 2));

  test('texts of xlnet-base-cased as Hugging Face encodes them', async () => {
    const ours = await XLNetTokenizer.fromFolder(real);
    for (const { text, pair, type_ids, ...expected } of readJson<RealGolden[]>(real, 'golden.json')) {
      const { ids, typeIds, tokens, offsets } = ours.encode(text, pair === undefined ? {} : { pair });
      const starts = [0, ...keptCharacters(text, () => false).map(({ end }) => end)];
      expect({ text, ids: [...ids], typeIds: [...typeIds], tokens, offsets }).toEqual({
        text,
        ...expected,
        // For an unknown word Hugging Face gives the word.
        tokens: expected.tokens.map((token, index) => (expected.ids[index] === ours.unkTokenId ? '<unk>' : token)),
        typeIds: type_ids,
        // Not given for pairs.
        offsets: expected.offsets?.map((range) => range.map((character) => starts[character])) ?? offsets,
      });
    }
  });
}
