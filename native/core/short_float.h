// bf16 and fp16 as their bits, to and from float and double. A conversion rounds once, to nearest even; NaN stays NaN, what is too large
// becomes infinite. Functions are static for the reason given in status.h.
#pragma once

#include <cstdint>
#include <cstring>

namespace xlformers {

struct Bfloat16 {
  uint16_t bits;
};

struct Float16 {
  uint16_t bits;
};

static inline uint32_t bits_of_float(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

static inline float float_of_bits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

static inline float to_float(Bfloat16 value) { return float_of_bits(uint32_t{value.bits} << 16); }

static inline float to_float(Float16 value) {
  const uint32_t sign = uint32_t{value.bits & 0x8000u} << 16;
  const uint32_t magnitude = value.bits & 0x7FFFu;
  if (magnitude < 0x400u) {  // zero and the subnormal numbers, multiples of 2^-24
    return float_of_bits(sign | bits_of_float(static_cast<float>(magnitude) * 0x1p-24f));
  }
  const uint32_t exponent = magnitude >= 0x7C00u ? 224u : 112u;  // infinity and NaN, or the difference of the biases
  return float_of_bits(sign | ((magnitude << 13) + (exponent << 23)));
}

static inline Bfloat16 to_bfloat16(float value) {
  const uint32_t bits = bits_of_float(value);
  const uint32_t upper = bits >> 16;
  const bool nan = (bits & 0x7FFFFFFFu) > 0x7F800000u;
  return {static_cast<uint16_t>(nan ? upper | 0x40u : (bits + 0x7FFFu + (upper & 1u)) >> 16)};
}

static inline Float16 to_float16(float value) {
  const uint32_t bits = bits_of_float(value);
  const uint32_t sign = bits >> 16 & 0x8000u;
  const uint32_t magnitude = bits & 0x7FFFFFFFu;
  uint32_t half;
  if (magnitude > 0x7F800000u) {
    half = 0x7E00u | (magnitude >> 13 & 0x3FFu);
  } else if (magnitude >= 0x477FF000u) {  // 65520 and above
    half = 0x7C00u;
  } else if (magnitude < 0x38800000u) {  // below 2^-14: the sum with 0.5 is rounded to a multiple of 2^-24
    half = bits_of_float(float_of_bits(magnitude) + 0.5f) - bits_of_float(0.5f);
  } else {
    half = (magnitude - (112u << 23) + 0xFFFu + (magnitude >> 13 & 1u)) >> 13;
  }
  return {static_cast<uint16_t>(sign | half)};
}

// The float towards zero from `value`, its last bit set where bits were cut off: rounding it to 8 or 11 bits gives what rounding `value`
// itself gives (Boldo & Melquiond 2008, "Emulation of a FMA and correctly rounded sums").
static inline float round_to_odd(double value) {
  const float nearest = static_cast<float>(value);
  if (static_cast<double>(nearest) == value || nearest != nearest) return nearest;
  uint32_t bits = bits_of_float(nearest);
  const bool away = (nearest < 0 ? -static_cast<double>(nearest) : static_cast<double>(nearest)) > (value < 0 ? -value : value);
  if (away) bits -= 1;
  return float_of_bits(bits | 1u);
}

static inline Bfloat16 to_bfloat16(double value) { return to_bfloat16(round_to_odd(value)); }
static inline Float16 to_float16(double value) { return to_float16(round_to_odd(value)); }

}  // namespace xlformers
