import type { RandomSource } from '../../lib/data/dataRandom';
import { type SentenceCorpus, TokenStream } from '../../lib/data/sentences';
import { startPieces } from '../../lib/data/spanMasking';
import {
  type XLNetBatch,
  type XLNetSampleConfig,
  XLNetSamples,
  drawSample,
  resolveSampleConfig,
} from '../../lib/data/xlnetSamples';
import { fixturePath, readJson } from '../support/fixtures';
import { TestRandom } from '../support/random';

type Draw = ['uniform', number] | ['integer', bound: number, number] | ['permutation', number[]];

interface Reference {
  pieces: string[];
  cases: {
    config: Partial<XLNetSampleConfig> & { batchSize: number; reuseLen: number; numPredict: number };
    tokens: number[];
    sentences: number[];
    samples: {
      draws: Draw[];
      inputIds: number[];
      segments: number[];
      /** '1': the key of the column is hidden from the query of the row. */
      permMask: string[];
      targetPositions: number[];
      targets: number[];
    }[];
  }[];
}

/** Of the original's data_utils.py (scripts/reference/xlnet_data.py). */
const reference = readJson<Reference>(fixturePath('training', 'xlnet-data.json'));

/** Answers as the original's generators did, and only what they were asked. */
class Replay implements RandomSource {
  constructor(private readonly draws: Draw[]) {}

  private take<K extends Draw[0]>(kind: K): Extract<Draw, [K, ...unknown[]]> {
    const draw = this.draws.shift();
    if (draw?.[0] !== kind) throw new Error(`asked for ${kind}, the original drew ${draw?.[0] ?? 'nothing'}`);
    return draw as Extract<Draw, [K, ...unknown[]]>;
  }

  uniform(): number {
    return this.take('uniform')[1];
  }

  integer(bound: number): number {
    const [, expected, value] = this.take('integer');
    if (bound !== expected) throw new Error(`asked for an integer below ${bound}, the original below ${expected}`);
    return value;
  }

  permutation(length: number): Int32Array {
    const [, order] = this.take('permutation');
    if (order.length !== length) throw new Error(`asked to permute ${length}, the original ${order.length}`);
    return Int32Array.from(order);
  }

  get left(): number {
    return this.draws.length;
  }
}

describe.each(reference.cases.map((entry, index) => [index, entry] as const))(
  'case %i of the original data_utils.py',
  (_, { config, tokens, sentences, samples }) => {
    const corpus: SentenceCorpus = { tokens: Int32Array.from(tokens), sentences: Uint8Array.from(sentences) };
    const starts = startPieces(reference.pieces);
    const { batchSize, biData = false, accumulation = 1, reuseLen } = config;

    /** Stream of a row, by the reshapes of create_tfrecords. */
    const streamOf = (row: number) => {
      const rowsOfPart = batchSize / accumulation;
      const streams = biData ? batchSize / 2 : batchSize;
      const half = biData ? rowsOfPart / 2 : rowsOfPart;
      const inPart = row % rowsOfPart;
      const length = Math.floor(tokens.length / streams);
      const place = Math.floor(row / rowsOfPart) * half + (inPart % half);
      return new TokenStream(corpus, place * length, length, inPart >= half);
    };

    test('the same draws give the same samples', () => {
      const resolved = resolveSampleConfig({ ...config, spanMode: 'upstream' });
      expect(samples.length).toBeGreaterThan(10);
      samples.forEach((expected, index) => {
        const random = new Replay([...expected.draws]);
        const begin = Math.floor(index / batchSize) * reuseLen;
        const sample = drawSample(streamOf(index % batchSize), begin, starts, resolved, random);
        expect(random.left).toBe(0);
        expect([...sample.inputIds]).toEqual(expected.inputIds);
        expect([...sample.segments]).toEqual(expected.segments);
        const mask = Array.from(sample.queryRanks, (query) =>
          Array.from(sample.keyRanks, (key) => (key >= query ? 1 : 0)).join(''),
        );
        expect(mask).toEqual(expected.permMask);
        const padding = config.numPredict - expected.targets.length;
        expect([...sample.targetPositions]).toEqual([...expected.targetPositions, ...new Array(padding).fill(-1)]);
        expect([...sample.targets]).toEqual([...expected.targets, ...new Array(padding).fill(-100)]);
      });
    });

    test('rows hold the streams that the original gives them', () => {
      const batches = new XLNetSamples(corpus, starts, config);
      // The original may drop the last batches of a stream.
      expect(batches.batchesPerEpoch).toBeGreaterThanOrEqual(samples.length / batchSize);
      samples.forEach(({ inputIds }, index) => {
        const batch = batches.at({ epoch: 0, index: Math.floor(index / batchSize) })!;
        const start = (index % batchSize) * batch.length;
        expect([...batch.inputIds.subarray(start, start + reuseLen)]).toEqual(inputIds.slice(0, reuseLen));
      });
    });
  },
);

const vocabulary = new Uint8Array(100).fill(1);
const small = { batchSize: 4, seqLen: 32, reuseLen: 16, permSize: 8, numPredict: 9, biData: true, seed: 3 } as const;

function randomCorpus(length: number, seed = 1): SentenceCorpus {
  const random = new TestRandom(seed);
  const sentences = new Uint8Array(length);
  for (let at = 0, value = 0; at < length; value = 1 - value) {
    const end = at + random.integer(1, 12);
    sentences.fill(value, at, end);
    at = end;
  }
  return { tokens: random.integers(length, 7, 99), sentences };
}

function* rowsOf(batch: XLNetBatch) {
  for (let row = 0; row < batch.batch; row += 1) {
    const of = (values: Int32Array, width: number) => values.subarray(row * width, (row + 1) * width);
    yield {
      inputIds: of(batch.inputIds, batch.length),
      segments: of(batch.segments, batch.length),
      queryRanks: of(batch.queryRanks, batch.length),
      keyRanks: of(batch.keyRanks, batch.length),
      targetPositions: of(batch.targetPositions, batch.numPredict),
      targets: of(batch.targets, batch.numPredict),
    };
  }
}

describe.each(['fixed', 'upstream'] as const)('XLNetSamples, %s', (spanMode) => {
  test('every row has its layout, its targets and its memory', () => {
    const batches = new XLNetSamples(randomCorpus(900), vocabulary, { ...small, spanMode });
    for (let index = 0; index < batches.batchesPerEpoch; index += 1) {
      const batch = batches.at({ epoch: 0, index })!;
      expect(batch).toMatchObject({ batch: 4, length: 32, numPredict: 9, epoch: 0, index });
      for (const { inputIds, segments, targetPositions, targets, queryRanks, keyRanks } of rowsOf(batch)) {
        expect([...inputIds.subarray(30)]).toEqual([4, 3]);
        const separators = [...inputIds.keys()].filter((at) => inputIds[at] === 4);
        expect(separators).toHaveLength(2);
        const [first] = separators as [number, number];
        expect(first).toBeGreaterThan(16);
        expect(first).toBeLessThan(29);
        const expected = Array.from({ length: 32 }, (_, at) => (at <= first ? 0 : at < 31 ? 1 : 2));
        expect([...segments]).toEqual(expected);
        const positions = [...targetPositions].filter((position) => position !== -1);
        // 5 of the first part; at most 4 of the second, fewer where <sep> or <cls> was chosen.
        expect(positions.filter((position) => position < 16)).toHaveLength(5);
        expect(positions.length).toBeGreaterThanOrEqual(5 + 1);
        expect(positions).toEqual([...new Set(positions)].sort((a, b) => a - b));
        targetPositions.forEach((position, at) => {
          expect(targets[at]).toBe(position === -1 ? -100 : inputIds[position]);
          if (position === -1) return;
          expect([3, 4]).not.toContain(targets[at]);
          expect(keyRanks[position]).toBeGreaterThanOrEqual(queryRanks[position]!);
        });
      }
    }
  });

  test('a batch is a function of its place: resumed streams give the same, epochs and seeds differ', () => {
    const corpus = randomCorpus(700);
    const make = (seed: number = small.seed) => new XLNetSamples(corpus, vocabulary, { ...small, spanMode, seed });
    const straight = make();
    const count = 2 * straight.batchesPerEpoch + 3;
    const states = Array.from({ length: count }, () => ({ state: straight.state(), batch: straight.next() }));
    for (const { state, batch } of [...states].reverse()) {
      const resumed = make();
      resumed.restore(JSON.parse(JSON.stringify(state)) as typeof state);
      expect(resumed.next()).toEqual(batch);
      expect(make().at(batch)).toEqual(batch);
    }
    expect(states.map(({ batch }) => batch.epoch).at(-1)).toBe(2);
    expect(states.filter(({ batch }) => batch.index === 0)).toHaveLength(3);
    const [first, second] = [states[0]!.batch, states[straight.batchesPerEpoch]!.batch];
    expect(second.queryRanks).not.toEqual(first.queryRanks);
    expect(second.targetPositions).not.toEqual(first.targetPositions);
    expect(make(4).at({ epoch: 0, index: 0 })!.queryRanks).not.toEqual(first.queryRanks);
    expect(straight.at({ epoch: 0, index: straight.batchesPerEpoch })).toBeNull();
  });
});

test('successive batches of a row are contiguous, and half of the rows read backwards', () => {
  const tokens = Int32Array.from({ length: 2 * 80 }, (_, index) => 7 + (index % 90));
  const corpus = { tokens, sentences: Uint8Array.from(tokens, (_, index) => (index >> 2) & 1) };
  const batches = new XLNetSamples(corpus, vocabulary, small);
  const read = [0, 1, 2, 3].map((row) =>
    Array.from({ length: batches.batchesPerEpoch }, (_, index) => [
      ...batches.at({ epoch: 0, index })!.inputIds.subarray(row * 32, row * 32 + 16),
    ]).flat(),
  );
  expect(batches.batchesPerEpoch).toBe(4);
  expect(read[0]).toEqual([...tokens.subarray(0, 64)]);
  expect(read[1]).toEqual([...tokens.subarray(80, 144)]);
  expect(read[2]).toEqual([...tokens.subarray(16, 80)].reverse());
  expect(read[3]).toEqual([...tokens.subarray(96, 160)].reverse());
});

test('the sizes of the paper: 43 and 42 targets of 512 tokens', () => {
  const { config } = new XLNetSamples(randomCorpus(4096), vocabulary, { batchSize: 2, biData: true });
  expect(config).toMatchObject({ seqLen: 512, reuseLen: 256, permSize: 256, numPredict: 85, spanMode: 'fixed' });
  const batch = new XLNetSamples(randomCorpus(4096), vocabulary, { batchSize: 2, biData: true }).next();
  for (const { targetPositions } of rowsOf(batch)) {
    expect(targetPositions.filter((position) => position >= 0 && position < 256)).toHaveLength(43);
    const rest = targetPositions.filter((position) => position >= 256).length;
    expect(rest).toBeGreaterThanOrEqual(39);
    expect(rest).toBeLessThanOrEqual(42);
  }
});

describe('what is refused', () => {
  test.each<[Partial<Record<keyof XLNetSampleConfig, unknown>>, string]>([
    [{ batchSize: 3 }, 'data.batchSize: got 3, expected a multiple of 2, of two directions in each micro-batch'],
    [{ accumulation: 4 }, 'data.batchSize: got 4, expected a multiple of 8'],
    [{ permSize: 5 }, 'data.permSize: got 5, expected a divisor of reuseLen 16'],
    [{ reuseLen: 28 }, 'data.reuseLen: got 28, expected at most seqLen - 5 = 27'],
    [{ numPredict: 33 }, 'data.numPredict: got 33, expected at most 32'],
    [{ maskBeta: 7 }, 'data.maskBeta: got 7, expected at most maskAlpha 6'],
    [{ spanMode: 'spans' }, "data.spanMode: got 'spans', expected one of fixed, upstream"],
    [{ biData: 1 }, 'data.biData: got 1, expected true or false'],
    [{ seed: -1 }, 'data.seed: got -1'],
    [{ permsize: 8 } as never, "data.permsize: unknown option; did you mean 'permSize'?"],
  ])('%j', (change, message) => {
    const config = { ...small, ...change } as Partial<XLNetSampleConfig>;
    expect(() => new XLNetSamples(randomCorpus(400), vocabulary, config)).toThrow(message);
  });

  test('texts that are too short, and ids outside the vocabulary', () => {
    expect(() => new XLNetSamples(randomCorpus(63), vocabulary, small)).toThrow(
      'data: got 63 tokens, expected at least 64 for 2 streams of samples of 32',
    );
    const corpus = randomCorpus(64);
    corpus.tokens[9] = 100;
    expect(() => new XLNetSamples(corpus, vocabulary, small)).toThrow(
      'data: got 100 at token 9, expected an id in [0, 100)',
    );
    expect(() => new XLNetSamples(randomCorpus(64), vocabulary, { ...small, clsId: 100 })).toThrow(
      'data.clsId: got 100',
    );
  });
});
