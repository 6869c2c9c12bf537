import { ByteLevelTokenizer } from '../../lib';
import { TestRandom } from '../support/random';

const tokenizer = new ByteLevelTokenizer();

/** One, two, three and four bytes a character, combining marks, right-to-left, joined emoji, and what separates bytes from text. */
const texts = [
  '',
  'Call me Ishmael.',
  'naïve café — “whale”',
  'e\u0301 \u200d \ufeff \u0000 \u007f \u0080 \uffff \ufffd',
  '\ufeffa byte-order mark first',
  'שלום مرحبا',
  '鯨が跳ぶ',
  '🐋👩‍👩‍👧‍👦🏴‍☠️',
  '\u{10ffff}\u{10000}',
];

test.each(texts)('%j: ids are the bytes of its UTF-8, and come back as the text', (text) => {
  const ids = tokenizer.encode(text).ids;
  expect([...ids]).toEqual([...Buffer.from(text, 'utf8')]);
  expect(tokenizer.decode(ids)).toBe(text);
  expect([...ids].every((id) => id >= 0 && id < tokenizer.vocabSize)).toBe(true);
});

test('every byte is an id', () => {
  expect(tokenizer.vocabSize).toBe(256);
  const ascii = Array.from({ length: 128 }, (_, id) => id);
  expect(tokenizer.decode(ascii)).toBe(String.fromCharCode(...ascii));
  for (let id = 128; id < 256; id += 1) expect(tokenizer.decode([id])).toBe('\ufffd');
});

test('a lone surrogate is no character, and becomes U+FFFD', () => {
  expect(tokenizer.decode(tokenizer.encode('a\ud800b').ids)).toBe('a\ufffdb');
});

describe('stream', () => {
  const streamed = (ids: Iterable<number>) => {
    const stream = tokenizer.stream();
    const parts = [...ids].map((id) => stream.push(id));
    return { parts, text: parts.join('') + stream.end() };
  };

  test.each(texts)('%j arrives whole, each character with its last byte', (text) => {
    const { parts, text: joined } = streamed(tokenizer.encode(text).ids);
    expect(joined).toBe(text);
    const characters = [...text];
    expect(parts.filter((part) => part !== '')).toEqual(characters);
    let position = 0;
    for (const character of characters) {
      const bytes = Buffer.byteLength(character);
      expect(parts.slice(position, position + bytes)).toEqual([...new Array<string>(bytes - 1).fill(''), character]);
      position += bytes;
    }
  });

  test('any bytes give the text that they give at once', () => {
    const random = new TestRandom(4);
    for (let round = 0; round < 200; round += 1) {
      const bytes = Array.from({ length: random.integer(1, 40) }, () =>
        random.uniform() < 0.5
          ? random.integer(0, 255)
          : random.pick([0xc3, 0xa9, 0xe2, 0x82, 0xac, 0xf0, 0x9f, 0x90, 0x8b, 0x41]),
      );
      expect(streamed(bytes).text).toBe(tokenizer.decode(bytes));
    }
  });

  test('an unfinished character at the end is U+FFFD, not lost', () => {
    const whale = [...tokenizer.encode('🐋').ids];
    for (let length = 1; length < 4; length += 1) expect(streamed(whale.slice(0, length)).text).toBe('\ufffd');
  });
});
