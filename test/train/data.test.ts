import { OrderedBatches, splitCorpus } from '../../lib';
import { learningRateAt, type ScheduleOptions } from '../../lib/train/schedule';
import { resolveTrainConfig } from '../../lib/train/trainConfig';
import { lossCurve } from '../../lib/train/lossCurve';

describe('OrderedBatches', () => {
  test('cuts the text into contiguous streams and walks them side by side', () => {
    const tokens = Int32Array.from({ length: 23 }, (_, index) => index);
    const batches = new OrderedBatches(tokens, 2, 4);
    expect(batches.streamLength).toBe(11);
    const all = [...batches];
    expect(all.map(({ length }) => length)).toEqual([4, 4, 2]);
    expect([...all[0]!.inputIds]).toEqual([0, 1, 2, 3, 11, 12, 13, 14]);
    expect([...all[0]!.targets]).toEqual([1, 2, 3, 4, 12, 13, 14, 15]);
    expect([...all[2]!.inputIds]).toEqual([8, 9, 19, 20]);
    expect([...all[2]!.targets]).toEqual([9, 10, 20, 21]);
    expect(batches.batchesPerEpoch).toBe(3);
    expect(batches.at(10)).toBeNull();
    // Any batch without those before it.
    expect([...batches.at(4)!.inputIds]).toEqual([4, 5, 6, 7, 15, 16, 17, 18]);
  });

  test('a text shorter than the streams is refused', () => {
    expect(() => new OrderedBatches(new Int32Array(5), 3, 4)).toThrow(/got 5 tokens, expected at least 6/);
  });

  test.each([
    [[0, 1, 2 ** 32 + 1, 3], /^data\[2\]: got 4294967297, expected an id in \[0, 2147483648\)$/],
    [[0, 1.5, 2, 3], /^data\[1\]: got 1.5/],
    [[0, 1, 2, -3], /^data\[3\]: got -3/],
    [[NaN, 1, 2, 3], /^data\[0\]: got NaN/],
    [['0', 1, 2, 3], /^data\[0\]: got '0'/],
    [Int32Array.of(0, 1, 2, -1), /^data\[3\]: got -1/],
    [Uint32Array.of(0, 1, 2 ** 31, 3), /^data\[2\]: got 2147483648/],
    [{ length: 4 }, /^data\[0\]: got undefined/],
  ])('ids %p are refused, not cut to 32 bits', (tokens, message) => {
    const make = () => new OrderedBatches(tokens as number[], 1, 2);
    expect(make).toThrow(expect.objectContaining({ code: 'ERR_TOKEN_ID', message: expect.stringMatching(message) }));
  });

  test('bytes and 16-bit ids up to the last are taken', () => {
    for (const tokens of [Uint8Array.of(0, 255), Uint16Array.of(0, 65_535), [0, 2 ** 31 - 1]]) {
      expect([...new OrderedBatches(tokens, 1, 4).at(0)!.targets]).toEqual([tokens[1]]);
    }
  });
});

test('splitCorpus holds out the end', () => {
  const bytes = Uint8Array.from({ length: 100 }, (_, index) => index);
  const { train, valid, test: last } = splitCorpus(bytes, { valid: 0.1, test: 0.2 });
  expect([train.length, valid.length, last.length]).toEqual([70, 10, 20]);
  expect([valid[0], last[0], last[19]]).toEqual([70, 80, 99]);
  expect(() => splitCorpus(bytes, { valid: 0.6, test: 0 })).toThrow(/holdOut.valid/);
});

describe('learningRateAt', () => {
  const options: ScheduleOptions = {
    kind: 'cosine',
    learningRate: 2,
    warmupSteps: 4,
    totalSteps: 100,
    minimumRate: 0.5,
  };
  test('warms up, then follows the schedule', () => {
    expect([1, 2, 3].map((step) => learningRateAt(step, options))).toEqual([0.5, 1, 1.5]);
    expect(learningRateAt(50, options)).toBeCloseTo(1.25, 12);
    expect(learningRateAt(100, options)).toBeCloseTo(0.5, 12);
    expect(learningRateAt(200, options)).toBeCloseTo(0.5, 12);
    expect(learningRateAt(50, { ...options, kind: 'constant' })).toBe(2);
    // From 2 at step 4 down to 0.5 at step 100.
    expect([4, 52, 100, 200].map((step) => learningRateAt(step, { ...options, kind: 'linear' }))).toEqual([
      2, 1.25, 0.5, 0.5,
    ]);
    expect(learningRateAt(4, { ...options, kind: 'linear', totalSteps: 4 })).toBe(0.5);
    expect(learningRateAt(16, { ...options, kind: 'inverse-sqrt' })).toBeCloseTo(1, 12);
  });
});

describe('resolveTrainConfig', () => {
  test('fills in defaults', () => {
    const config = resolveTrainConfig({ targetLength: 64 });
    expect(config.evaluation.targetLength).toBe(64);
    expect(config.optimizer).toBe('adam');
  });

  test.each([
    [{ batchSize: 0 }, /train.batchSize: got 0, expected an integer in \[1/],
    [{ batchSize: 1.5 }, /batchSize/],
    [{ batchSize: 4, accumulation: 3 }, /accumulation: got 3, expected a divisor of batchSize 4/],
    [{ learningRate: NaN }, /learningRate: got NaN/],
    [{ learningRate: '1' }, /learningRate: got '1'/],
    [{ learningrate: 1 }, /learningrate: unknown option; did you mean 'learningRate'/],
    [{ schedule: 'cosin' }, /schedule: got 'cosin', expected one of cosine/],
    [{ evaluation: { patience: -1 } }, /train.evaluation.patience/],
    [{ checkpoint: { kep: 1 } }, /did you mean 'keep'/],
    [{ checkpoint: { final: 'first' } }, /train.checkpoint.final: got 'first', expected one of best, last/],
    [{ decayed: 'biases' }, /train.decayed: got 'biases', expected one of matrices, all/],
    [{ layerDecay: 0 }, /train.layerDecay: got 0/],
    [{ layerDecay: 1.5 }, /train.layerDecay: got 1.5/],
    [{ evaluation: [] }, /train.evaluation: got an array/],
    [{ steps: 2 ** 53 }, /steps/],
  ])('refuses %j', (given, message) => {
    expect(() => resolveTrainConfig(given as never)).toThrow(message);
  });
});

test('lossCurve draws both lines and escapes its title', () => {
  const svg = lossCurve(
    [
      { event: 'step', step: 1, loss: 3, learningRate: 1, gradientNorm: 1, tokensPerSecond: 1 },
      { event: 'step', step: 2, loss: 2, learningRate: 1, gradientNorm: 1, tokensPerSecond: 1 },
      { event: 'evaluation', step: 2, loss: 2.5 },
    ],
    'a < b',
  );
  expect(svg).toContain('a &#60; b');
  expect(svg.match(/<path d="M[^"]+"/g)).toHaveLength(2);
  expect(lossCurve([], 'empty')).not.toContain('NaN');
  const inNats = lossCurve([{ event: 'evaluation', step: 1, loss: 0.5 }], 'x', { name: 'nats & more', nats: 1 });
  expect(inNats).toContain('nats &#38; more');
  // Ticks from 0.5 to 1.
  expect(inNats).toContain('>0.50<');
});
