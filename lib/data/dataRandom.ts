/** What the data pipeline asks of chance. */
export interface RandomSource {
  /** [0, 1) */
  uniform(): number;
  /** An integer in [0, bound), each equally likely. */
  integer(bound: number): number;
  /** 0 … length - 1 in random order. */
  permutation(length: number): Int32Array;
}

/** Keeps the draws of the data apart from those of the operators (dropout), which use the same seed. */
const dataKey = 0x64617461;

/**
 * Random numbers on the host: Philox4x32-10 (Salmon et al. 2011), the generator of the native operators. Place instead of history:
 * the numbers are a function of the seed and of three words that say what they are for (epoch, batch, row), so that resuming a run
 * needs no state beyond its position.
 */
export class DataRandom implements RandomSource {
  private readonly key: readonly [number, number];
  private block: readonly number[] = [];
  private blocks = 0;
  private used = 4;

  /**
   * @param seed integer in [0, 2^53)
   * @param place three integers in [0, 2^32)
   */
  constructor(
    seed: number,
    private readonly place: readonly [number, number, number],
  ) {
    this.key = [seed >>> 0, (Math.floor(seed / 2 ** 32) ^ dataKey) >>> 0];
  }

  /** 32 random bits. */
  private word(): number {
    if (this.used === 4) {
      this.block = philox([this.blocks, ...this.place], this.key);
      this.blocks += 1;
      this.used = 0;
    }
    const word = this.block[this.used] as number;
    this.used += 1;
    return word;
  }

  uniform(): number {
    return ((this.word() >>> 5) * 2 ** 26 + (this.word() >>> 6)) / 2 ** 53;
  }

  integer(bound: number): number {
    // The words above the last multiple of the bound would favour the small numbers.
    const limit = 2 ** 32 - (2 ** 32 % bound);
    for (;;) {
      const word = this.word();
      if (word < limit) return word % bound;
    }
  }

  permutation(length: number): Int32Array {
    const order = Int32Array.from({ length }, (_, index) => index);
    for (let last = length - 1; last > 0; last -= 1) {
      const other = this.integer(last + 1);
      [order[last], order[other]] = [order[other] as number, order[last] as number];
    }
    return order;
  }
}

/** Ten rounds over four counter words. */
export function philox(counter: readonly number[], key: readonly [number, number]): number[] {
  let [c0, c1, c2, c3] = counter as [number, number, number, number];
  let [k0, k1] = key;
  for (let round = 0; round < 10; round += 1) {
    const [high0, low0] = product(0xd2511f53, c0);
    const [high1, low1] = product(0xcd9e8d57, c2);
    [c0, c1, c2, c3] = [(high1 ^ c1 ^ k0) >>> 0, low1, (high0 ^ c3 ^ k1) >>> 0, low0];
    k0 = (k0 + 0x9e3779b9) >>> 0;
    k1 = (k1 + 0xbb67ae85) >>> 0;
  }
  return [c0, c1, c2, c3];
}

/** [high, low] word of the product of two 32-bit words, by halves that a double holds exactly. */
function product(a: number, b: number): [high: number, low: number] {
  const high = a * (b >>> 16);
  const low = a * (b & 0xffff) + (high % 2 ** 16) * 2 ** 16;
  return [Math.floor(high / 2 ** 16) + Math.floor(low / 2 ** 32), low >>> 0];
}
