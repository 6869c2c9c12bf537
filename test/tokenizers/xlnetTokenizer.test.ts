import path from 'node:path';
import { XLNetTokenizer } from '../../lib';
import { fixturePath, readJson } from '../support/fixtures';

interface Golden {
  single: {
    text: string;
    fast: number[];
    fastTypes: number[];
    fastTokens: string[];
    slow: number[];
    decoded: string;
  }[];
  pairs: { text: string; pair: string; fast: number[]; types: number[] }[];
}

const folder = fixturePath('tokenizers', 'xlnet-small');
const golden = readJson<Golden>(folder, 'golden.json');
let fast: XLNetTokenizer;
let slow: XLNetTokenizer;
beforeAll(async () => {
  fast = await XLNetTokenizer.fromFolder(folder);
  slow = await XLNetTokenizer.fromFile(path.join(folder, 'spiece.model'));
});

test.each(golden.single.map((entry) => [JSON.stringify(entry.text.slice(0, 60)), entry] as const))('%s', (_, entry) => {
  const { ids, typeIds, tokens, attentionMask } = fast.encode(entry.text);
  expect(tokens).toEqual(entry.fastTokens);
  expect(Array.from(ids)).toEqual(entry.fast);
  expect(Array.from(typeIds)).toEqual(entry.fastTypes);
  expect(attentionMask).toEqual(ids.map(() => 1));
  expect(Array.from(fast.encode(entry.text, { addSpecialTokens: false }).ids)).toEqual(entry.fast.slice(0, -2));
  expect(fast.decode(entry.fast, { skipSpecialTokens: true })).toBe(entry.decoded);
  expect(Array.from(slow.encode(entry.text).ids)).toEqual(entry.slow);
});

test.each(golden.pairs.map((entry) => [JSON.stringify([entry.text, entry.pair]).slice(0, 60), entry] as const))(
  'two segments: %s',
  (_, { text, pair, fast: ids, types }) => {
    const encoding = fast.encode(text, { pair });
    expect(Array.from(encoding.ids)).toEqual(ids);
    expect(Array.from(encoding.typeIds)).toEqual(types);
  },
);
