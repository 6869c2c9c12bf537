/** bfloat16 and float16 as their bits. Rounding is once, to nearest, ties to even; NaN stays NaN, what is too large becomes infinite. */

const single = new Float32Array(1);
const singleBits = new Uint32Array(single.buffer);

/**
 * The bits of the float32 towards zero from a number, the last one set where anything was cut off: rounding it to 8 or 11 bits gives
 * what rounding the number itself gives (Boldo & Melquiond 2008).
 */
function oddBits(value: number): number {
  single[0] = value;
  const nearest = single[0] as number;
  const bits = singleBits[0] as number;
  if (nearest === value || Number.isNaN(nearest)) return bits;
  return ((Math.abs(nearest) > Math.abs(value) ? bits - 1 : bits) | 1) >>> 0;
}

export function toBfloat16(values: ArrayLike<number>): Uint16Array<ArrayBuffer> {
  const out = new Uint16Array(values.length);
  for (let index = 0; index < out.length; index += 1) {
    const bits = oddBits(values[index] as number);
    const isNaN = (bits & 0x7fffffff) > 0x7f800000;
    out[index] = isNaN ? (bits >>> 16) | 0x40 : (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
  }
  return out;
}

export function toFloat16(values: ArrayLike<number>): Uint16Array<ArrayBuffer> {
  const out = new Uint16Array(values.length);
  for (let index = 0; index < out.length; index += 1) out[index] = float16Bits(oddBits(values[index] as number));
  return out;
}

function float16Bits(bits: number): number {
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  // 65520 and above round to infinity.
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  const exponent = (magnitude >>> 23) - 112;
  if (exponent > 0) {
    const rounded = magnitude - (112 << 23) + 0xfff + ((magnitude >>> 13) & 1);
    return sign | (rounded >>> 13);
  }
  if (exponent < -10) return sign;
  // Below the normal range: the implicit bit moves into the fraction.
  const fraction = (magnitude & 0x7fffff) | 0x800000;
  const shift = 14 - exponent;
  const kept = fraction >>> shift;
  const rest = fraction & ((1 << shift) - 1);
  const tie = 1 << (shift - 1);
  return sign | (kept + (rest > tie || (rest === tie && (kept & 1) === 1) ? 1 : 0));
}

export function fromBfloat16(bits: Uint16Array): Float32Array<ArrayBuffer> {
  const wide = new Uint32Array(bits.length);
  for (let index = 0; index < bits.length; index += 1) wide[index] = (bits[index] as number) << 16;
  return new Float32Array(wide.buffer);
}

/** By their bits; made when first needed. */
let halfValues: Float32Array | null = null;

export function fromFloat16(bits: Uint16Array): Float32Array<ArrayBuffer> {
  halfValues ??= Float32Array.from({ length: 65_536 }, (_, half) => halfToNumber(half));
  const values = new Float32Array(bits.length);
  for (let index = 0; index < bits.length; index += 1) values[index] = halfValues[bits[index] as number] as number;
  return values;
}

/** IEEE 754 binary16. */
function halfToNumber(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction === 0 ? sign * Infinity : NaN;
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15));
}
