import { DataRandom, type RandomSource } from '../../lib/data/dataRandom';
import { type SpanOptions, sampleSpans, startPieces } from '../../lib/data/spanMasking';
import { TestRandom } from '../support/random';

const base: SpanOptions = { mode: 'fixed', goal: 20, alpha: 6, beta: 1, maxGram: 5, reversed: false };

/** Words of 1 to 4 tokens. */
function randomWords(random: TestRandom, length: number): Uint8Array {
  const starts = new Uint8Array(length);
  for (let position = 0; position < length; position += random.integer(1, 4)) starts[position] = 1;
  return starts;
}

/** Draws spans of one length with no context before them; what is drawn singly would always be the first token. */
function spansOf(count: number): RandomSource {
  let total = 0;
  for (let n = 1; n <= 5; n += 1) total += 1 / n;
  let below = 0;
  for (let n = 1; n < count; n += 1) below += 1 / n;
  return { uniform: () => (below + 0.5 / count) / total, integer: () => 0, permutation: () => new Int32Array(0) };
}

describe('startPieces', () => {
  test('words, special tokens and punctuation begin something; other pieces go on', () => {
    const pieces = ['▁the', 'ing', '<sep>', '.', '~', '…', '▁', '..', '"', "'", 'é'];
    expect([...startPieces(pieces)]).toEqual([1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 0]);
  });
});

describe.each(['fixed', 'upstream'] as const)('sampleSpans, %s', (mode) => {
  test('chooses exactly the goal, the same for the same draws', () => {
    const random = new TestRandom(1);
    for (let round = 0; round < 300; round += 1) {
      const length = random.integer(1, 120);
      const starts = randomWords(random, length);
      const options = { ...base, mode, goal: random.integer(0, length), reversed: random.uniform() < 0.5 };
      const chosen = sampleSpans(starts, options, new DataRandom(round, [0, 0, 0]));
      expect(chosen).toHaveLength(length);
      expect(chosen.reduce((sum, value) => sum + value, 0)).toBe(options.goal);
      expect(sampleSpans(starts, options, new DataRandom(round, [0, 0, 0]))).toEqual(chosen);
    }
  });

  test('a reversed segment is masked as its mirror image', () => {
    const starts = randomWords(new TestRandom(2), 90);
    const forwards = sampleSpans(starts, { ...base, mode, goal: 15 }, new DataRandom(4, [0, 0, 0]));
    const backwards = sampleSpans(
      starts.slice().reverse(),
      { ...base, mode, goal: 15, reversed: true },
      new DataRandom(4, [0, 0, 0]),
    );
    expect(backwards).toEqual(forwards.slice().reverse());
  });

  test('without word starts the goal is reached singly', () => {
    const chosen = sampleSpans(new Uint8Array(10), { ...base, mode, goal: 10 }, new DataRandom(1, [0, 0, 0]));
    expect([...chosen]).toEqual(new Array(10).fill(1));
  });

  test('more than the segment holds is refused', () => {
    expect(() => sampleSpans(new Uint8Array(3), { ...base, mode, goal: 4 }, new DataRandom(1, [0, 0, 0]))).toThrow(
      "goal: got 4, expected at most the segment's 3 tokens",
    );
  });
});

describe('where spans end', () => {
  const starts = Uint8Array.from([1, 0, 0, 1, 0, 1, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0]);

  test('upstream counts tokens, from the start of a word', () => {
    // Two tokens; ten more of context; the next word starts at 12.
    const chosen = sampleSpans(starts, { ...base, mode: 'upstream', goal: 4 }, spansOf(2));
    expect(indicesOf(chosen)).toEqual([0, 1, 18, 19]);
  });

  test('fixed counts words and chooses them whole', () => {
    // Words 0-2 and 3-4, one word apart the word 12-17; the one after it does not fit into the goal any more.
    const options = { ...base, alpha: 1, goal: 11 };
    expect(indicesOf(sampleSpans(starts, options, spansOf(2)))).toEqual([0, 1, 2, 3, 4, 12, 13, 14, 15, 16, 17]);
  });

  test('fixed cuts a word that alone is longer than what is left', () => {
    const long = Uint8Array.from([1, 0, 0, 0, 0, 0, 1, 0]);
    expect(indicesOf(sampleSpans(long, { ...base, goal: 3 }, spansOf(1)))).toEqual([0, 1, 2]);
  });
});

test('span lengths fall as 1/n, and about beta of alpha tokens are chosen', () => {
  const length = 6000;
  const starts = new Uint8Array(length).fill(1);
  const counts = new Array<number>(6).fill(0);
  let last = 0;
  for (let seed = 0; seed < 20; seed += 1) {
    const chosen = sampleSpans(starts, { ...base, goal: 600 }, new DataRandom(seed, [0, 0, 0]));
    last += chosen.lastIndexOf(1) + 1;
    for (let position = 0, run = 0; position <= length; position += 1) {
      if (chosen[position] === 1) run += 1;
      else if (run > 0) {
        counts[Math.min(run, 5)]! += 1;
        run = 0;
      }
    }
  }
  // Every span takes n tokens of n + 6 n.
  expect(last / 20 / 600).toBeGreaterThan(6);
  expect(last / 20 / 600).toBeLessThan(8);
  // Neighbouring spans may touch, which makes a few runs longer.
  const ratios = [2, 3, 4].map((n) => (counts[n]! * n) / counts[1]!);
  for (const ratio of ratios) expect(Math.abs(ratio - 1)).toBeLessThan(0.2);
});

function indicesOf(chosen: Uint8Array): number[] {
  return [...chosen.keys()].filter((index) => chosen[index] === 1);
}
