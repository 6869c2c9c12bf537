// __half (IEEE binary16) and __nv_bfloat16 with CUDA's names. Every operation rounds once, to nearest even.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "simt/types.h"

namespace simt {

static inline uint32_t bits_of(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

static inline float float_of(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

static inline float bfloat16_to_float(uint16_t bits) { return float_of(uint32_t{bits} << 16); }

static inline uint16_t float_to_bfloat16(float value) {
  const uint32_t bits = bits_of(value);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return 0x7FFF;  // CUDA's NaN
  return static_cast<uint16_t>((bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16);
}

static inline float half_to_float(uint16_t half) {
  const uint32_t sign = uint32_t{half & 0x8000u} << 16;
  const uint32_t magnitude = half & 0x7FFFu;
  if (magnitude >= 0x7C00u) return float_of(sign | 0x7F800000u | (magnitude & 0x3FFu) << 13);
  if (magnitude < 0x400u) {  // subnormal: a multiple of 2^-24
    const float value = static_cast<float>(magnitude) * 0x1p-24f;
    return sign ? -value : value;
  }
  return float_of(sign | ((magnitude << 13) + (112u << 23)));
}

static inline uint16_t float_to_half(float value) {
  const uint32_t bits = bits_of(value);
  const uint16_t sign = static_cast<uint16_t>(bits >> 16 & 0x8000u);
  const uint32_t magnitude = bits & 0x7FFFFFFFu;
  if (magnitude > 0x7F800000u) return 0x7FFF;                                  // CUDA's NaN
  if (magnitude >= 0x477FF000u) return static_cast<uint16_t>(sign | 0x7C00u);  // 65520 and above round to infinity
  if (magnitude < 0x38800000u) {  // below 2^-14: adding 0.5 leaves a multiple of 2^-24 in the low bits, rounded to even
    return static_cast<uint16_t>(sign | (bits_of(float_of(magnitude) + 0.5f) - bits_of(0.5f)));
  }
  return static_cast<uint16_t>(sign | ((magnitude - (112u << 23) + 0xFFFu + (magnitude >> 13 & 1u)) >> 13));
}

// To float by rounding to odd, after which one more rounding to 11 or 8 bits is as good as the only one
// (Boldo & Melquiond 2008).
static inline float round_to_odd(double value) {
  const float nearest = static_cast<float>(value);
  if (static_cast<double>(nearest) == value || nearest != nearest || (bits_of(nearest) & 1u) != 0) return nearest;
  return std::nextafterf(nearest, static_cast<double>(nearest) < value ? INFINITY : -INFINITY);
}

// a * b + c for operands of at most 11 bits: the product is exact, and so is the error of the sum (Knuth's two-sum).
static inline float fused_multiply_add(float a, float b, float c) {
  const double product = static_cast<double>(a) * b;
  double sum = product + c;
  const double back = sum - product;
  const double error = (product - (sum - back)) + (c - back);
  uint64_t bits;
  std::memcpy(&bits, &sum, sizeof bits);
  if (error == error && error != 0 && (bits & 1u) == 0) sum = std::nextafter(sum, error > 0 ? HUGE_VAL : -HUGE_VAL);
  return round_to_odd(sum);
}

// Sums, products and quotients of two numbers of p bits, rounded to 24 >= 2p + 2 bits and then to p, are rounded
// correctly (Figueroa 1995).
#define SIMT_SHORT_FLOAT(type, from_float, to_float)                                   \
  struct type {                                                                        \
    uint16_t bits;                                                                     \
    type() = default;                                                                  \
    type(float value) : bits(simt::from_float(value)) {}                               \
    operator float() const { return simt::to_float(bits); }                            \
    type& operator+=(type other) { return *this = type(float(*this) + float(other)); } \
    type& operator-=(type other) { return *this = type(float(*this) - float(other)); } \
    type& operator*=(type other) { return *this = type(float(*this) * float(other)); } \
    type& operator/=(type other) { return *this = type(float(*this) / float(other)); } \
  };                                                                                   \
  struct alignas(4) type##2_pair {                                                     \
    type x, y;                                                                         \
  };                                                                                   \
  static inline type operator+(type a, type b) { return a += b; }                      \
  static inline type operator-(type a, type b) { return a -= b; }                      \
  static inline type operator*(type a, type b) { return a *= b; }                      \
  static inline type operator/(type a, type b) { return a /= b; }                      \
  static inline type operator-(type a) {                                               \
    a.bits ^= 0x8000u;                                                                 \
    return a;                                                                          \
  }                                                                                    \
  static inline type __hadd(type a, type b) { return a + b; }                          \
  static inline type __hsub(type a, type b) { return a - b; }                          \
  static inline type __hmul(type a, type b) { return a * b; }                          \
  static inline type __hdiv(type a, type b) { return a / b; }                          \
  static inline type __hneg(type a) { return -a; }                                     \
  static inline type __hfma(type a, type b, type c) { return type(simt::fused_multiply_add(a, b, c)); }

}  // namespace simt

SIMT_SHORT_FLOAT(__half, float_to_half, half_to_float)
SIMT_SHORT_FLOAT(__nv_bfloat16, float_to_bfloat16, bfloat16_to_float)
#undef SIMT_SHORT_FLOAT
using __half2 = __half2_pair;
using __nv_bfloat162 = __nv_bfloat162_pair;
using half = __half;
using half2 = __half2;

static inline __half __float2half(float value) { return __half(value); }
static inline __half __float2half_rn(float value) { return __half(value); }
static inline float __half2float(__half value) { return value; }
static inline __half __double2half(double value) { return __half(simt::round_to_odd(value)); }
static inline __half2 __floats2half2_rn(float low, float high) { return {__half(low), __half(high)}; }
static inline __half2 __halves2half2(__half low, __half high) { return {low, high}; }
static inline float2 __half22float2(__half2 value) { return {value.x, value.y}; }
static inline uint16_t __half_as_ushort(__half value) { return value.bits; }
static inline __half __ushort_as_half(uint16_t bits) {
  __half value;
  value.bits = bits;
  return value;
}

static inline __nv_bfloat16 __float2bfloat16(float value) { return __nv_bfloat16(value); }
static inline __nv_bfloat16 __float2bfloat16_rn(float value) { return __nv_bfloat16(value); }
static inline float __bfloat162float(__nv_bfloat16 value) { return value; }
static inline __nv_bfloat16 __double2bfloat16(double value) { return __nv_bfloat16(simt::round_to_odd(value)); }
static inline __nv_bfloat162 __floats2bfloat162_rn(float low, float high) {
  return {__nv_bfloat16(low), __nv_bfloat16(high)};
}
static inline __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 low, __nv_bfloat16 high) { return {low, high}; }
static inline float2 __bfloat1622float2(__nv_bfloat162 value) { return {value.x, value.y}; }
static inline uint16_t __bfloat16_as_ushort(__nv_bfloat16 value) { return value.bits; }
static inline __nv_bfloat16 __ushort_as_bfloat16(uint16_t bits) {
  __nv_bfloat16 value;
  value.bits = bits;
  return value;
}
