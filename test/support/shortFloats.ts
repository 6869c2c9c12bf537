import type { ShortFloatDType } from '../../lib';

/** bfloat16 and float16 by their definitions, for tests of conversions. */
export const formats: Record<ShortFloatDType, { fractionBits: number; bias: number; largest: number }> = {
  bfloat16: { fractionBits: 7, bias: 127, largest: 0x7f7f },
  float16: { fractionBits: 10, bias: 15, largest: 0x7bff },
};

export const shortTypes = ['bfloat16', 'float16'] as const;

/** The number that bits stand for (IEEE 754, section 3.4). */
export function numberOf(bits: number, dtype: ShortFloatDType): number {
  const { fractionBits, bias } = formats[dtype];
  const sign = bits & 0x8000 ? -1 : 1;
  const fraction = bits & (2 ** fractionBits - 1);
  const exponent = (bits & 0x7fff) >> fractionBits;
  if (exponent === 0) return sign * fraction * 2 ** (1 - bias - fractionBits);
  if (exponent === 2 * bias + 1) return fraction === 0 ? sign * Infinity : NaN;
  return sign * (1 + fraction / 2 ** fractionBits) * 2 ** (exponent - bias);
}

/** The next number of float32 or float64 above a positive one, or below. */
export function neighbour(value: number, direction: 1 | -1, bits: 32 | 64): number {
  if (bits === 32) {
    const single = Float32Array.of(value);
    new Uint32Array(single.buffer)[0]! += direction;
    return single[0]!;
  }
  const double = Float64Array.of(value);
  new BigUint64Array(double.buffer)[0]! += BigInt(direction);
  return double[0]!;
}

/**
 * Positive numbers at which rounding is decided, and the bits that they become: between each two neighbours of the format the middle, a
 * tie, which goes to the even one, and the numbers next to it on both sides; the same beyond the largest, whose neighbour is infinite.
 * @param source bits of the numbers' type; the middles are exact in both
 */
export function roundingCases(dtype: ShortFloatDType, source: 32 | 64): { value: number; bits: number }[] {
  const { largest, fractionBits, bias } = formats[dtype];
  const cases: { value: number; bits: number }[] = [];
  for (let lower = 0; lower <= largest; lower += 1) {
    const above = lower === largest ? 2 ** (bias + 1) : numberOf(lower + 1, dtype);
    const middle = (numberOf(lower, dtype) + above) / 2;
    // Of the smallest subnormal bfloat16, half is exact in float32, and so are its neighbours.
    cases.push({ value: middle, bits: lower + (lower & 1) });
    cases.push({ value: neighbour(middle, -1, source), bits: lower });
    cases.push({ value: neighbour(middle, 1, source), bits: lower + 1 });
  }
  expect(cases.length).toBe(3 * (largest + 1));
  expect(fractionBits).toBeLessThan(23);
  return cases;
}

/** Bits that all stand for NaN are equal. */
export function sameBits(bits: number, dtype: ShortFloatDType): number {
  return Number.isNaN(numberOf(bits, dtype)) ? 0x7fff : bits;
}
