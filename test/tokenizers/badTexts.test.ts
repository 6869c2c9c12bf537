/** Table C of docs/security.md: texts and ids that tokenizers choke on. Work is counted, not timed. */
import { execFileSync } from 'node:child_process';
import path from 'node:path';
import { XLNetModel, XLNetTokenizer } from '../../lib';
import { CharTrie } from '../../lib/tokenizers/charTrie';
import { maxPieceLength, maxTextLength } from '../../lib/tokenizers/limits';
import { Unigram } from '../../lib/tokenizers/unigram';
import { repository } from '../support/cli';
import { fixturePath } from '../support/fixtures';
import { countSteps } from '../support/trieSteps';

const folder = fixturePath('tokenizers', 'xlnet-small');
const tokenizers: Record<string, XLNetTokenizer> = {};
beforeAll(async () => {
  tokenizers['tokenizer.json'] = await XLNetTokenizer.fromFolder(folder);
  tokenizers['spiece.model'] = await XLNetTokenizer.fromFile(path.join(folder, 'spiece.model'));
});

interface LongText {
  name: string;
  unit: string;
  steps: [number, number, number, number];
  wrong: number;
  end: number;
}

function longTexts(what: 'doubled' | 'hundredMegabytes', units: readonly string[]): LongText[] {
  const program = path.join(__dirname, 'programs', 'longTexts.ts');
  const args = ['-r', 'ts-node/register/transpile-only', program, folder, what, ...units];
  const output = execFileSync(process.execPath, args, { cwd: repository, encoding: 'utf8' });
  const lines = output
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as LongText);
  expect(lines.length).toBe(2 * units.length);
  return lines;
}

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

  test('maxLength first: of a long text no more is split than it takes', () => {
    const tokenizer = tokenizers[name]!;
    const beginning = 'It is a truth universally acknowledged, 1,2,3, <mask> that \u2581 \u2581 '.repeat(20);
    const text = beginning.repeat(200);
    for (const maxLength of [3, 10, 33, 100, 256]) {
      const options = { truncation: true, maxLength };
      const expected = tokenizer.encode(text).ids.subarray(0, maxLength - 2);
      let ids: ArrayLike<number> = [];
      const count = countSteps(() => ({ ids } = tokenizer.encode(text, options)));
      expect(Array.from(ids).slice(0, maxLength - 2)).toEqual(Array.from(expected));
      // All that is left of the length is the search for special tokens.
      expect(count).toBeLessThan(text.length / 20);
    }
  });

  test('a text beyond the limit is refused by its length, before anything is done', () => {
    const text = 'a'.repeat(maxTextLength + 1);
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
  test('twice the text takes at most 2.3 times the steps, from 5 kB to 4 MB', () => {
    const units = ['a', '1,2,3,', 'e\u0301\u0301\u0301', '\ufdfa', ' ', '\u2581', 'a ', '<mask', '\u{1f468}\u200d'];
    for (const { name, unit, steps } of longTexts('doubled', units)) {
      const [short, shortTwice, long, longTwice] = steps;
      const limits = [shortTwice <= 2.3 * short + 100, longTwice <= 2.3 * long + 100];
      expect([name, unit, ...limits]).toEqual([name, unit, true, true]);
    }
  });

  test('100 MB of one letter: ids of the vocabulary, ranges one after the other', () => {
    for (const { wrong, end } of longTexts('hundredMegabytes', ['a'])) expect([wrong, end]).toEqual([0, 100 * 2 ** 20]);
  });

  /** The worst vocabulary: every piece begins like every other. */
  const worst = (length: number, score: number) => {
    const trie = new CharTrie();
    const scores = new Float64Array(maxPieceLength).fill(score);
    for (let piece = 1; piece <= maxPieceLength; piece += 1) trie.set('a'.repeat(piece), piece - 1);
    const unigram = new Unigram({ trie, scores, unknownId: 0, unknownScore: -1e6, float32: true });
    const count = countSteps(() => unigram.split('a'.repeat(length), 0, length));
    return { count, unigram };
  };

  test.each([-1, -99_999, -1e6])('the worst vocabulary, pieces of score %d', (score) => {
    const { count, unigram } = worst(1024, score);
    expect(count).toBeLessThanOrEqual(1024 * (maxPieceLength + 1));
    expect(unigram.count).toBe(1024 / maxPieceLength);
    expect(Number.isFinite(unigram.sum)).toBe(true);
  });
});
