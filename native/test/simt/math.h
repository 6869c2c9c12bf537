// CUDA's device functions on numbers. The fast ones (__expf, ...) are exact here: a kernel's tolerance has to allow for
// the device's errors by itself.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "simt/half.h"

// The C library declares these names for itself, hence macros.
#define __expf(x) std::exp(static_cast<float>(x))
#define __exp10f(x) std::pow(10.0f, static_cast<float>(x))
#define __logf(x) std::log(static_cast<float>(x))
#define __log2f(x) std::log2(static_cast<float>(x))
#define __log10f(x) std::log10(static_cast<float>(x))
#define __powf(x, y) std::pow(static_cast<float>(x), static_cast<float>(y))
#define __sinf(x) std::sin(static_cast<float>(x))
#define __cosf(x) std::cos(static_cast<float>(x))

static inline float rsqrtf(float x) noexcept { return static_cast<float>(1 / std::sqrt(static_cast<double>(x))); }
static inline double rsqrt(double x) noexcept { return 1 / std::sqrt(x); }
// Of pi x: whole turns are taken off exactly.
static inline void sincospi(double x, double* sine, double* cosine) {
  const double angle = std::remainder(x, 2.0) * 3.14159265358979323846;
  *sine = std::sin(angle);
  *cosine = std::cos(angle);
}
static inline float __frsqrt_rn(float x) { return rsqrtf(x); }
static inline float __fsqrt_rn(float x) { return std::sqrt(x); }
static inline float __frcp_rn(float x) { return 1 / x; }
static inline float __fadd_rn(float x, float y) { return x + y; }
static inline float __fmul_rn(float x, float y) { return x * y; }
static inline float __fdiv_rn(float x, float y) { return x / y; }
static inline float __fdividef(float x, float y) { return x / y; }
static inline float __fmaf_rn(float x, float y, float z) { return std::fma(x, y, z); }
static inline float __saturatef(float x) { return x > 0 ? (x < 1 ? x : 1) : 0; }

static inline uint32_t __float_as_uint(float x) { return simt::bits_of(x); }
static inline int __float_as_int(float x) { return static_cast<int>(simt::bits_of(x)); }
static inline float __uint_as_float(uint32_t bits) { return simt::float_of(bits); }
static inline float __int_as_float(int bits) { return simt::float_of(static_cast<uint32_t>(bits)); }
static inline int __float2int_rn(float x) { return static_cast<int>(std::nearbyint(x)); }
static inline int __float2int_rz(float x) { return static_cast<int>(x); }

static inline int __popc(uint32_t x) { return __builtin_popcount(x); }
static inline int __popcll(uint64_t x) { return __builtin_popcountll(x); }
static inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz(static_cast<uint32_t>(x)); }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline uint32_t __umulhi(uint32_t x, uint32_t y) { return static_cast<uint32_t>(uint64_t{x} * y >> 32); }
static inline uint32_t __brev(uint32_t x) {
  uint32_t reversed = 0;
  for (int bit = 0; bit < 32; ++bit) reversed |= (x >> bit & 1u) << (31 - bit);
  return reversed;
}
static inline uint32_t __byte_perm(uint32_t x, uint32_t y, uint32_t selector) {
  const uint64_t bytes = uint64_t{y} << 32 | x;
  uint32_t result = 0;
  for (int i = 0; i < 4; ++i) {
    const uint32_t select = selector >> (4 * i) & 0xFu;
    uint32_t byte = static_cast<uint32_t>(bytes >> (8 * (select & 7u))) & 0xFFu;
    if (select & 8u) byte = byte & 0x80u ? 0xFFu : 0;
    result |= byte << (8 * i);
  }
  return result;
}

#define SIMT_MIN_MAX(type)                                         \
  static inline type min(type a, type b) { return b < a ? b : a; } \
  static inline type max(type a, type b) { return a < b ? b : a; }
SIMT_MIN_MAX(int)
SIMT_MIN_MAX(unsigned)
SIMT_MIN_MAX(long)
SIMT_MIN_MAX(unsigned long)
SIMT_MIN_MAX(long long)
SIMT_MIN_MAX(unsigned long long)
#undef SIMT_MIN_MAX
static inline float min(float a, float b) { return std::fmin(a, b); }
static inline float max(float a, float b) { return std::fmax(a, b); }
static inline double min(double a, double b) { return std::fmin(a, b); }
static inline double max(double a, double b) { return std::fmax(a, b); }

template <typename T>
static inline T __ldg(const T* address) {
  return *address;
}
template <typename T>
static inline T __ldcs(const T* address) {
  return *address;
}
template <typename T>
static inline void __stcs(T* address, T value) {
  *address = value;
}
