// Vectors of the compiled instruction set, through the vector extensions of GCC and Clang: one source for SSE2, NEON, AVX2, AVX-512.
// Arithmetic operators work element-wise; with -ffp-contract=fast a * b + c becomes one fused instruction where there is one.
#pragma once

#include <cmath>
#include <cstdint>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "cpu/isa.h"

XL_KERNELS_BEGIN

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

template <typename T>
struct VecOf {
  typedef T Type __attribute__((vector_size(kVectorBytes)));
};
template <typename T>
using Vec = typename VecOf<T>::Type;

template <typename T>
constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));

template <typename T>
static inline Vec<T> load(const T* address) {
  Vec<T> v;
  __builtin_memcpy(&v, address, sizeof v);
  return v;
}

template <typename T>
static inline void store(T* address, Vec<T> v) {
  __builtin_memcpy(address, &v, sizeof v);
}

template <typename T>
static inline Vec<T> broadcast(T value) {
  return value - Vec<T>{};
}

#if defined(__AVX2__) && !defined(__AVX512F__)
// All bits of the first `count` lanes of 4 or 8 bytes.
template <int lane_bytes>
static inline __m256i first_lanes(int count) {
  if constexpr (lane_bytes == 4) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  return _mm256_cmpgt_epi64(_mm256_set1_epi64x(count), _mm256_setr_epi64x(0, 1, 2, 3));
}
#endif

// The first `count` lanes from memory, the others zero. 0 <= count < kLanes<T>. x86 from AVX2 on: by masked instructions, since a
// memcpy of a variable length is a call.
template <typename T>
static inline Vec<T> load_partial(const T* address, int count) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) {
    return reinterpret_cast<Vec<T>>(_mm512_maskz_loadu_epi32(static_cast<__mmask16>((1u << count) - 1), address));
  }
  if constexpr (sizeof(T) == 8) {
    return reinterpret_cast<Vec<T>>(_mm512_maskz_loadu_epi64(static_cast<__mmask8>((1u << count) - 1), address));
  }
#elif defined(__AVX2__)
  if constexpr (sizeof(T) == 4) {
    return reinterpret_cast<Vec<T>>(_mm256_maskload_epi32(reinterpret_cast<const int*>(address), first_lanes<4>(count)));
  }
  if constexpr (sizeof(T) == 8) {
    return reinterpret_cast<Vec<T>>(_mm256_maskload_epi64(reinterpret_cast<const long long*>(address), first_lanes<8>(count)));
  }
#endif
  Vec<T> v = {};
  __builtin_memcpy(&v, address, static_cast<unsigned>(count) * sizeof(T));
  return v;
}

template <typename T>
static inline void store_partial(T* address, Vec<T> v, int count) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) {
    _mm512_mask_storeu_epi32(address, static_cast<__mmask16>((1u << count) - 1), reinterpret_cast<__m512i>(v));
    return;
  }
  if constexpr (sizeof(T) == 8) {
    _mm512_mask_storeu_epi64(address, static_cast<__mmask8>((1u << count) - 1), reinterpret_cast<__m512i>(v));
    return;
  }
#elif defined(__AVX2__)
  if constexpr (sizeof(T) == 4) {
    _mm256_maskstore_epi32(reinterpret_cast<int*>(address), first_lanes<4>(count), reinterpret_cast<__m256i>(v));
    return;
  }
  if constexpr (sizeof(T) == 8) {
    _mm256_maskstore_epi64(reinterpret_cast<long long*>(address), first_lanes<8>(count), reinterpret_cast<__m256i>(v));
    return;
  }
#endif
  __builtin_memcpy(address, &v, static_cast<unsigned>(count) * sizeof(T));
}

template <typename T>
static inline Vec<T> maximum(Vec<T> a, Vec<T> b) {
  return a > b ? a : b;
}

template <typename T>
static inline Vec<T> minimum(Vec<T> a, Vec<T> b) {
  return a < b ? a : b;
}

// Horizontal results add lanes pairwise: (0 + n/2), (1 + n/2 + 1), ...: the order is fixed for an instruction set.
template <typename T>
static inline T horizontal_sum(Vec<T> v) {
  T lanes[kLanes<T>];
  __builtin_memcpy(lanes, &v, sizeof v);
  for (int half = kLanes<T> / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  }
  return lanes[0];
}

template <typename T>
static inline T horizontal_max(Vec<T> v) {
  T lanes[kLanes<T>];
  __builtin_memcpy(lanes, &v, sizeof v);
  for (int half = kLanes<T> / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) lanes[i] = lanes[i] > lanes[i + half] ? lanes[i] : lanes[i + half];
  }
  return lanes[0];
}

// e^x. float: range reduction to |r| <= ln(2)/2 and a degree-6 polynomial, within 2 ulp; below -87.3 the result is 0, above 88.7 it
// is that of 88.7 (no caller has such arguments); NaN stays NaN. double: the library's, lane by lane.
static inline Vec<float> exponential(Vec<float> x) {
  typedef int32_t IntVec __attribute__((vector_size(kVectorBytes)));
  const Vec<float> low = broadcast(-87.33654f);
  const Vec<float> high = broadcast(88.72283f);
  const Vec<float> clipped = x > high ? high : (x < low ? low : x);
  const Vec<float> magic = broadcast(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer kept in the low bits
  const Vec<float> shifted = clipped * 1.44269504f + magic;
  const Vec<float> n = shifted - magic;
  Vec<float> r = clipped - n * 0.693359375f;
  r = r - n * -2.12194440e-4f;
  Vec<float> p = broadcast(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  IntVec bits;
  __builtin_memcpy(&bits, &shifted, sizeof bits);
  // 2^n in two factors, since n reaches 128.
  const IntVec exponent = (bits << 9) >> 9;  // sign-extended low 23 bits hold n relative to the magic's mantissa
  const IntVec whole = exponent - 0x400000;
  const IntVec half = whole >> 1;
  const IntVec a = (half + 127) << 23;
  const IntVec b = (whole - half + 127) << 23;
  Vec<float> scale_a, scale_b;
  __builtin_memcpy(&scale_a, &a, sizeof a);
  __builtin_memcpy(&scale_b, &b, sizeof b);
  const Vec<float> result = p * scale_a * scale_b;
  return x < low ? Vec<float>{} : result;
}

static inline Vec<double> exponential(Vec<double> x) {
  double lanes[kLanes<double>];
  __builtin_memcpy(lanes, &x, sizeof x);
  for (double& lane : lanes) lane = std::exp(lane);
  Vec<double> result;
  __builtin_memcpy(&result, lanes, sizeof result);
  return result;
}

XL_KERNELS_END
