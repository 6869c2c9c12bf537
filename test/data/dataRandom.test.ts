import { DataRandom, philox } from '../../lib/data/dataRandom';
import { philoxBlock } from '../support/philox';
import { TestRandom } from '../support/random';

describe('philox', () => {
  test('gives the known answers of Random123', () => {
    expect(philox([0, 0, 0, 0], [0, 0])).toEqual([0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
    const ones = 0xffffffff;
    expect(philox([ones, ones, ones, ones], [ones, ones])).toEqual([0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]);
    expect(philox([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0])).toEqual([
      0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1,
    ]);
  });

  test('agrees with the definition in arbitrary precision', () => {
    const random = new TestRandom(1);
    const word = () => Math.floor(random.uniform() * 2 ** 32);
    for (let round = 0; round < 500; round += 1) {
      const [a, b, c, offset, seed] = [word(), word(), word(), word(), word()] as const;
      expect(philox([a, b, c, offset], [seed, 0])).toEqual(philoxBlock(seed, offset, [a, b, c]));
    }
  });
});

describe('DataRandom', () => {
  const draw = (random: DataRandom) => Array.from({ length: 20 }, () => random.uniform());

  test('is a function of seed and place', () => {
    expect(draw(new DataRandom(5, [1, 2, 3]))).toEqual(draw(new DataRandom(5, [1, 2, 3])));
    const others = [
      new DataRandom(6, [1, 2, 3]),
      new DataRandom(5 + 2 ** 32, [1, 2, 3]),
      new DataRandom(5, [0, 2, 3]),
      new DataRandom(5, [1, 3, 3]),
      new DataRandom(5, [1, 2, 4]),
    ].map((random) => draw(random).join());
    expect(new Set([...others, draw(new DataRandom(5, [1, 2, 3])).join()]).size).toBe(6);
  });

  test('integers fall evenly, whatever the bound', () => {
    const random = new DataRandom(1, [0, 0, 0]);
    for (const bound of [1, 2, 3, 7, 100]) {
      const counts = new Array<number>(bound).fill(0);
      const draws = 2000 * bound;
      for (let draw = 0; draw < draws; draw += 1) counts[random.integer(bound)]! += 1;
      // Five standard deviations.
      for (const count of counts) expect(Math.abs(count - 2000)).toBeLessThan(5 * Math.sqrt(2000) + 1);
    }
    // A bound of which 2^32 holds one and a half: without rejection a third of the numbers would come twice as often.
    const bound = 3 * 2 ** 30;
    let low = 0;
    for (let draw = 0; draw < 9000; draw += 1) if (random.integer(bound) < 2 ** 30) low += 1;
    expect(Math.abs(low - 3000)).toBeLessThan(5 * Math.sqrt(2000));
  });

  test('uniform numbers lie in [0, 1) around one half', () => {
    const random = new DataRandom(2, [0, 0, 0]);
    const values = Array.from({ length: 10_000 }, () => random.uniform());
    expect(values.every((value) => value >= 0 && value < 1)).toBe(true);
    expect(values.reduce((sum, value) => sum + value) / values.length).toBeCloseTo(0.5, 1);
  });

  test('every permutation of four comes equally often', () => {
    const random = new DataRandom(3, [0, 0, 0]);
    const counts = new Map<string, number>();
    for (let draw = 0; draw < 24_000; draw += 1) {
      const key = random.permutation(4).join();
      counts.set(key, (counts.get(key) ?? 0) + 1);
    }
    expect(counts.size).toBe(24);
    for (const count of counts.values()) expect(Math.abs(count - 1000)).toBeLessThan(160);
    expect([...random.permutation(0)]).toEqual([]);
  });
});
