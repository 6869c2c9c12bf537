/** Philox4x32-10 from its definition (Salmon et al. 2011), for masks computed independently of the kernels. */
function philox(counter: readonly number[], key: readonly number[]): number[] {
  let [c0, c1, c2, c3] = counter.map((word) => BigInt(word >>> 0)) as [bigint, bigint, bigint, bigint];
  let [k0, k1] = key.map((word) => BigInt(word >>> 0)) as [bigint, bigint];
  const mask = 0xffffffffn;
  for (let round = 0; round < 10; round += 1) {
    const p0 = 0xd2511f53n * c0;
    const p1 = 0xcd9e8d57n * c2;
    [c0, c1, c2, c3] = [(p1 >> 32n) ^ c1 ^ k0, p1 & mask, (p0 >> 32n) ^ c3 ^ k1, p0 & mask];
    k0 = (k0 + 0x9e3779b9n) & mask;
    k1 = (k1 + 0xbb67ae85n) & mask;
  }
  return [c0, c1, c2, c3].map(Number);
}

export function philoxBlock(seed: number, offset: number, [a, b, c]: readonly [number, number, number]): number[] {
  const low = (value: number) => value % 4294967296;
  const high = (value: number) => Math.floor(value / 4294967296);
  return philox([a, b, c, low(offset)], [low(seed), (high(seed) ^ high(offset)) >>> 0]);
}

/** 16-bit lane 0..7 of a block, as dropout reads it. */
export function philoxLane16(
  seed: number,
  offset: number,
  counter: readonly [number, number, number],
  lane: number,
): number {
  const word = philoxBlock(seed, offset, counter)[lane >> 1] as number;
  return (word >>> ((lane & 1) * 16)) & 0xffff;
}
