import { DataRandom } from '../../lib/data/dataRandom';
import { TokenStream, sentenceCorpus, splitSegments, splitSentences } from '../../lib/data/sentences';
import { TestRandom } from '../support/random';

const lengthOf = (line: string) => line.split(' ').map(Number);

describe('sentenceCorpus', () => {
  test('a line is a sentence; a blank line is an <eod> that belongs to the sentence before', () => {
    const { tokens, sentences } = sentenceCorpus('1 2\n3\r\n  \n\n4 5 6\n', lengthOf, 7);
    expect([...tokens]).toEqual([1, 2, 3, 7, 7, 4, 5, 6]);
    expect([...sentences]).toEqual([1, 1, 0, 0, 0, 1, 1, 1]);
    expect([...sentenceCorpus('1\n\n', lengthOf, 7).tokens]).toEqual([1, 7]);
    expect(sentenceCorpus('', lengthOf, 7).tokens).toHaveLength(0);
  });

  test('without <eod>, and with lines that give no tokens', () => {
    const { tokens, sentences } = sentenceCorpus('1\n\nx\n2', (line) => (line === 'x' ? [] : lengthOf(line)), null);
    expect([...tokens]).toEqual([1, 2]);
    expect([...sentences]).toEqual([1, 0]);
    expect(sentenceCorpus('', lengthOf, null).tokens).toHaveLength(0);
  });

  test('grows beyond its first buffer', () => {
    const { tokens, sentences } = sentenceCorpus('1 2 3\n'.repeat(5000).trimEnd(), lengthOf, 7);
    expect(tokens).toHaveLength(15_000);
    expect(tokens.every((token, index) => token === (index % 3) + 1)).toBe(true);
    expect([...sentences.subarray(14_994)]).toEqual([1, 1, 1, 0, 0, 0]);
  });
});

test('a reversed stream reads the same row from its end', () => {
  const corpus = sentenceCorpus('0 1\n2 3 4\n5', lengthOf, null);
  const read = (stream: TokenStream) => Array.from({ length: stream.length }, (_, at) => stream.token(at));
  const ends = (stream: TokenStream) => [1, 2, 3].map((at) => stream.endsBefore(at));
  const forwards = new TokenStream(corpus, 1, 4, false);
  const backwards = new TokenStream(corpus, 1, 4, true);
  expect([read(forwards), ends(forwards)]).toEqual([
    [1, 2, 3, 4],
    [true, false, false],
  ]);
  expect([read(backwards), ends(backwards)]).toEqual([
    [4, 3, 2, 1],
    [false, false, true],
  ]);
});

test.each([
  ['aaaa\nbb\nc\n', 0.4, 'aaaa\nbb\n', 'c\n'],
  ['aaaa\nbb\nc', 0.2, 'aaaa\nbb\n', 'c'],
  // The last line reaches back beyond the share: all of it is held out.
  ['aa\nbbbbbbbb', 0.1, 'aa\n', 'bbbbbbbb'],
  ['aa\nbb\n', 0, 'aa\nbb\n', null],
  ['aaaaaaaaaa', 0.3, 'aaaaaaaaaa', null],
  ['aaaaaaaaaa\n', 0.3, 'aaaaaaaaaa\n', null],
  ['', 0.3, '', null],
])('splitSentences of %j at %p', (text, share, train, valid) => {
  expect(splitSentences(text, share)).toEqual({ train, valid });
});

describe('splitSegments', () => {
  test('two segments inside the stream, of the asked total; A ends with a sentence unless cut', () => {
    const random = new TestRandom(1);
    let follows = 0;
    const rounds = 2000;
    for (let round = 0; round < rounds; round += 1) {
      const length = random.integer(40, 120);
      const sentences = new Uint8Array(length);
      for (let at = 0, value = 0; at < length; value = 1 - value) {
        const end = at + random.integer(1, 9);
        sentences.fill(value, at, end);
        at = end;
      }
      const corpus = { tokens: new Int32Array(length), sentences };
      const stream = new TokenStream(corpus, 0, length, random.uniform() < 0.5);
      const total = random.integer(2, 24);
      const begin = random.integer(0, length - total - 3);
      const { aBegin, aEnd, bBegin, bEnd } = splitSegments(stream, begin, total, new DataRandom(round, [0, 0, 0]));
      expect(aBegin).toBe(begin);
      expect(aEnd - aBegin).toBeGreaterThan(0);
      expect(bEnd - bBegin).toBeGreaterThan(0);
      expect(aEnd - aBegin + bEnd - bBegin).toBe(total);
      expect(bBegin).toBeGreaterThanOrEqual(0);
      expect(Math.max(aEnd, bEnd)).toBeLessThanOrEqual(length);
      // B begins with a sentence.
      expect(bBegin === 0 || stream.endsBefore(bBegin)).toBe(true);
      if (bBegin === aEnd) follows += 1;
    }
    expect(follows / rounds).toBeGreaterThan(0.25);
    expect(follows / rounds).toBeLessThan(0.6);
  });

  test('a random B begins with its sentence and stops before the last token of the stream', () => {
    const sentences = Uint8Array.from({ length: 20 }, (_, at) => (at < 9 ? 0 : at < 16 ? 1 : 0));
    const stream = new TokenStream({ tokens: new Int32Array(20), sentences }, 0, 20, false);
    const asked: number[] = [];
    const answers = [0, 17];
    const random = {
      uniform: () => 0.25,
      integer: (bound: number) => {
        asked.push(bound);
        return answers.shift()!;
      },
      permutation: () => new Int32Array(0),
    };
    // A is 2-8 and one token is left to B, which grows from 17 to 16-18; the longer A gives way.
    expect(splitSegments(stream, 2, 8, random)).toEqual({ aBegin: 2, aEnd: 7, bBegin: 16, bEnd: 19 });
    // One cut to choose from; B begins where one token follows it.
    expect(asked).toEqual([1, 19]);
  });

  test('one endless sentence', () => {
    const corpus = { tokens: new Int32Array(64), sentences: new Uint8Array(64) };
    const pair = splitSegments(new TokenStream(corpus, 0, 64, false), 10, 12, new DataRandom(1, [0, 0, 0]));
    expect(pair).toEqual({ aBegin: 10, aEnd: 16, bBegin: 0, bEnd: 6 });
  });
});
