import { DataRandom, type RandomSource } from '../../lib/data/dataRandom';
import { type MaskedTokens, type OrderOptions, factorizationOrder } from '../../lib/data/permutationOrder';
import { TestRandom } from '../support/random';

/** Hands out the given permutations in turn. */
function scripted(permutations: readonly Int32Array[]): RandomSource {
  const left = [...permutations];
  const unexpected = (): never => {
    throw new Error('not asked for');
  };
  return { uniform: unexpected, integer: unexpected, permutation: () => left.shift() as Int32Array };
}

/** The dense mask of one part as `_local_perm` writes it: index, rev_index and self_rev_index literally. */
function localPermMask({ isMasked, isFunctional }: MaskedTokens, permSize: number, shuffled: Int32Array): boolean[][] {
  const length = isMasked.length;
  const rows = Array.from({ length: permSize }, (_, row) =>
    Array.from({ length: length / permSize }, (_, block) => block * permSize + row),
  );
  const permuted = Array.from(shuffled, (row) => rows[row]!);
  const index = Array.from({ length }, (_, at) => permuted[at % permSize]![Math.floor(at / permSize)]!);
  const open = index.map((_, at) => isMasked[at] === 0 && isFunctional[at] === 0);
  const target = index.map((_, at) => isMasked[at] !== 0 && isFunctional[at] === 0);
  const revIndex = index.map((value, at) => (open[at] ? -1 : value));
  const selfRevIndex = revIndex.map((value, at) => (target[at] ? value : value + 1));
  return selfRevIndex.map((self) => revIndex.map((other, key) => self <= other && !open[key]));
}

/** Both parts together, as the original's `parser` joins them: 1 hides column from row. */
function densePermMask(tokens: MaskedTokens, { reuseLen, permSize }: OrderOptions, shuffled: readonly Int32Array[]) {
  const length = tokens.isMasked.length;
  const part = (start: number, end: number) => ({
    isMasked: tokens.isMasked.subarray(start, end),
    isFunctional: tokens.isFunctional.subarray(start, end),
  });
  const first = localPermMask(part(0, reuseLen), permSize, shuffled[0]!);
  const second = localPermMask(part(reuseLen, length), permSize, shuffled[1]!);
  const constant = (count: number, value: boolean) => new Array<boolean>(count).fill(value);
  return [
    ...first.map((row) => [...row, ...constant(length - reuseLen, true)]),
    ...second.map((row) => [...constant(reuseLen, false), ...row]),
  ];
}

/** What the kernel makes of the ranks. */
function maskOfRanks(queryRanks: Int32Array, keyRanks: Int32Array): boolean[][] {
  return Array.from(queryRanks, (query) => Array.from(keyRanks, (key) => key >= query));
}

function randomTokens(random: TestRandom, length: number): MaskedTokens {
  const [masked, functional] = [random.uniform(), random.uniform() * 0.4];
  const flags = (share: number) => Uint8Array.from({ length }, () => (random.uniform() < share ? 1 : 0));
  return { isMasked: flags(masked), isFunctional: flags(functional) };
}

describe('factorizationOrder', () => {
  test('the ranks hide exactly what the dense mask of the original hides', () => {
    const random = new TestRandom(1);
    for (let round = 0; round < 400; round += 1) {
      const permSize = random.integer(1, 8);
      const reuseLen = permSize * random.integer(1, 4);
      const length = reuseLen + permSize * random.integer(1, 4);
      const tokens = randomTokens(random, length);
      const draws = new DataRandom(round, [0, 0, 0]);
      const shuffled = [draws.permutation(permSize), draws.permutation(permSize)];
      const { queryRanks, keyRanks } = factorizationOrder(tokens, { reuseLen, permSize }, scripted(shuffled));
      expect(maskOfRanks(queryRanks, keyRanks)).toEqual(densePermMask(tokens, { reuseLen, permSize }, shuffled));
    }
  });

  test('targets are masked and not functional; none sees itself, all others see themselves', () => {
    const random = new TestRandom(2);
    for (let round = 0; round < 50; round += 1) {
      const tokens = randomTokens(random, 24);
      const { queryRanks, keyRanks, isTarget } = factorizationOrder(
        tokens,
        { reuseLen: 12, permSize: 6 },
        new DataRandom(round, [0, 0, 0]),
      );
      for (let position = 0; position < 24; position += 1) {
        const target = tokens.isMasked[position] === 1 && tokens.isFunctional[position] === 0;
        expect(isTarget[position] === 1).toBe(target);
        expect(keyRanks[position]! >= queryRanks[position]!).toBe(target);
      }
    }
  });

  test('what a position learns from others, through any number of layers, never holds a target of later rank', () => {
    // The content stream sees itself always; visibility must be closed under passing on.
    const random = new TestRandom(3);
    for (let round = 0; round < 50; round += 1) {
      const tokens = randomTokens(random, 16);
      const options = { reuseLen: 8, permSize: 8 };
      const order = factorizationOrder(tokens, options, new DataRandom(round, [0, 0, 0]));
      const hidden = maskOfRanks(order.queryRanks, order.keyRanks);
      const everyone = [...hidden.keys()];
      const sees = (query: number, key: number) => !hidden[query]![key];
      const leaks = everyone.flatMap((query) =>
        everyone
          .filter((middle) => sees(query, middle))
          .flatMap((middle) => everyone.filter((key) => sees(middle, key) && !sees(query, key))),
      );
      expect(leaks).toEqual([]);
    }
  });

  test.each([
    [8, 3, 'reuseLen (8 positions)'],
    [12, 4, 'the rest of the sample (6 positions)'],
    [0, 2, 'reuseLen (0 positions)'],
  ])('reuseLen %i and permSize %i are refused', (reuseLen, permSize, what) => {
    const tokens = { isMasked: new Uint8Array(18), isFunctional: new Uint8Array(18) };
    expect(() => factorizationOrder(tokens, { reuseLen, permSize }, new DataRandom(0, [0, 0, 0]))).toThrow(
      `permSize: got ${permSize}, expected a divisor of ${what}`,
    );
  });
});
