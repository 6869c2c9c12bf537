/** Table C of docs/security.md: texts and ids that tokenizers choke on. Work is counted, not timed. */
import path from 'node:path';
import { XLNetModel, XLNetTokenizer } from '../../lib';
import { CharTrie } from '../../lib/tokenizers/charTrie';
import { maxPieceLength, maxTextLength } from '../../lib/tokenizers/limits';
import { Unigram } from '../../lib/tokenizers/unigram';
import { fixturePath } from '../support/fixtures';

const folder = fixturePath('tokenizers', 'xlnet-small');
const tokenizers: Record<string, XLNetTokenizer> = {};
beforeAll(async () => {
  tokenizers['tokenizer.json'] = await XLNetTokenizer.fromFolder(folder);
  tokenizers['spiece.model'] = await XLNetTokenizer.fromFile(path.join(folder, 'spiece.model'));
});

const texts: [string, string][] = [
  ['nothing', ''],
  ['spaces', ' '.repeat(10_000)],
  ['white space of all kinds', '\t\n\r\v\f\u00a0\u2003\u3000'.repeat(500)],
  ['one word', 'a'.repeat(20_000)],
  ['numbers and commas', '1,2,3,'.repeat(10_000)],
  ['combining marks', `e${'\u0301'.repeat(20_000)}`],
  ['a character of 18 when decomposed', '\ufdfa'.repeat(5000)],
  ['lone surrogates', '\ud800x\udc00\udc00\ud800'.repeat(1000)],
  ['a lone surrogate at the end', 'x\ud83d'],
  ['NUL', '\0a\0'.repeat(1000)],
  ['characters that are none', '\uffff\ufffe\ufdd0'.repeat(1000)],
  ['right to left', '\u202e\u05d0\u0627\u202c'.repeat(1000)],
  ['joined emoji', '\u{1f468}\u200d\u{1f469}\u200d\u{1f467}'.repeat(1000)],
  ['its own mark for spaces', '\u2581'.repeat(5000)],
  ['special tokens', '<mask><sep> <cls>\u2581<pad>'.repeat(1000)],
  ['beginnings of special tokens', '<mas'.repeat(5000)],
];

describe.each(['tokenizer.json', 'spiece.model'])('%s', (name) => {
  test.each(texts)('%s: ids of the vocabulary, offsets inside the text', (_, text) => {
    const tokenizer = tokenizers[name]!;
    const { ids, offsets } = tokenizer.encode(text);
    expect(offsets.length).toBe(ids.length);
    expect(ids.every((id) => Number.isInteger(id) && id >= 0 && id < tokenizer.vocabSize)).toBe(true);
    expect(offsets.every(([start, end]) => start >= 0 && start <= end && end <= text.length)).toBe(true);
    expect(typeof tokenizer.decode(ids)).toBe('string');
  });

  test('a megabyte of one letter, and maxLength', () => {
    const text = 'a'.repeat(2 ** 20);
    const { ids } = tokenizers[name]!.encode(text, { truncation: true, maxLength: 128 });
    expect(ids.length).toBe(128);
  });

  test('100 MB are refused by length, before anything is done', () => {
    const text = 'a'.repeat(100 * 2 ** 20);
    expect(() => tokenizers[name]!.encode(text)).toThrow(
      expect.objectContaining({
        code: 'ERR_ARG_RANGE',
        message: expect.stringContaining(`at most ${maxTextLength}`) as string,
      }) as Error,
    );
    expect(() => tokenizers[name]!.encode('a', { pair: text })).toThrow(/^pair: /);
  });

  test.each([[-1], [NaN], [1.5], [2 ** 32], [Infinity], ['5'], [5n], [null], [undefined], [{}], [1e9]])(
    'id %p is refused with its index',
    (id) => {
      expect(() => tokenizers[name]!.decode([1, 2, id] as number[])).toThrow(
        expect.objectContaining({
          code: 'ERR_TOKEN_ID',
          message: expect.stringMatching(/^ids\[2\]: got /) as string,
        }) as Error,
      );
    },
  );

  test('a hole among ids', () => {
    expect(() => tokenizers[name]!.decode([1, , 2] as number[])).toThrow(/^ids\[1\]: got undefined/);
  });
});

describe('ids for a model', () => {
  const model = new XLNetModel({ vocabSize: 11, dModel: 4, nLayer: 1, nHead: 2, dInner: 6 }, { device: 'cpu' });
  afterAll(() => model.dispose());

  test.each([[-1], [11], [1.5], [NaN], [2 ** 32], [5n], ['5'], [null], [undefined]])('%p', (id) => {
    expect(() => model.forward({ inputIds: [[1, id as number]] })).toThrow(
      expect.objectContaining({
        code: 'ERR_TOKEN_ID',
        message: expect.stringMatching(/inputIds\[0\]\[1\]: got /) as string,
      }) as Error,
    );
  });
});

describe('work grows with the text, no faster', () => {
  /** Steps through tries while `run` runs: what the time to tokenize is made of. */
  const steps = (run: () => void): number => {
    const original = CharTrie.prototype.step;
    let count = 0;
    CharTrie.prototype.step = function (node, unit) {
      count += 1;
      return original.call(this, node, unit);
    };
    try {
      run();
    } finally {
      CharTrie.prototype.step = original;
    }
    return count;
  };

  test.each(
    ['a', '1,2,3,', 'e\u0301\u0301\u0301', '\ufdfa', ' ', '\u2581', 'a ', '<mask', '\u{1f468}\u200d'].flatMap((unit) =>
      Object.keys({ 'tokenizer.json': 0, 'spiece.model': 0 }).map((name) => [name, unit] as const),
    ),
  )('%s: %j again and again', (name, unit) => {
    const count = (length: number) => {
      const text = unit.repeat(Math.ceil(length / unit.length));
      return steps(() => tokenizers[name]!.encode(text));
    };
    count(100);
    const once = count(5000);
    expect(count(10_000)).toBeLessThanOrEqual(2.3 * once + 100);
  });

  /** The worst vocabulary: every piece begins like every other. */
  const worst = (length: number, score: number) => {
    const trie = new CharTrie();
    const scores = new Float64Array(maxPieceLength).fill(score);
    for (let piece = 1; piece <= maxPieceLength; piece += 1) trie.set('a'.repeat(piece), piece - 1);
    const unigram = new Unigram({ trie, scores, unknownId: 0, unknownScore: -1e6, float32: true });
    const count = steps(() => unigram.split('a'.repeat(length), 0, length));
    return { count, unigram };
  };

  test.each([-1, -99_999, -1e6])('the worst vocabulary, pieces of score %d', (score) => {
    const { count, unigram } = worst(1024, score);
    expect(count).toBeLessThanOrEqual(1024 * (maxPieceLength + 1));
    expect(unigram.count).toBe(1024 / maxPieceLength);
    expect(Number.isFinite(unigram.sum)).toBe(true);
  });
});
