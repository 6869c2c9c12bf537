// Packing of matrix_product's operands into panels that the micro-kernel (gemm_micro_kernel.h) reads front to back.
//
// A panel holds `width` rows of op(A), or columns of op(B), over k steps: element (i, p) at p * width + i. In memory
// the panel's elements of one step are either neighbours ("across": A transposed, B not) or a row apart ("along": the
// steps are neighbours).
#pragma once

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "cpu/vec.h"

XL_KERNELS_BEGIN

// Elements behind a panel that packing may overwrite.
template <typename T>
constexpr int kPanelSlack = kLanes<T>;

// x86 shuffles that stay within 16-byte pieces of a vector are the cheap ones.
template <typename T>
constexpr int kPieceLanes = 16 / static_cast<int>(sizeof(T));

// One vector of the pieces at rows[n * kPieceLanes] + offset, n = 0, 1, ... x86: by insertions from memory, which leave
// the one port for shuffles alone; compilers make shuffles of the portable form.
template <typename T>
static inline Vec<T> gather_pieces(const T* const* rows, int64_t offset) {
#if defined(__AVX512F__)
  constexpr int step = kPieceLanes<T>;
  __m512i v = _mm512_castsi128_si512(_mm_loadu_si128(reinterpret_cast<const __m128i*>(rows[0] + offset)));
  v = _mm512_inserti32x4(v, _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows[step] + offset)), 1);
  v = _mm512_inserti32x4(v, _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows[2 * step] + offset)), 2);
  v = _mm512_inserti32x4(v, _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows[3 * step] + offset)), 3);
#elif defined(__AVX2__)
  constexpr int step = kPieceLanes<T>;
  __m256i v = _mm256_castsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(rows[0] + offset)));
  v = _mm256_inserti128_si256(v, _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows[step] + offset)), 1);
#else
  const Vec<T> v = load(rows[0] + offset);
#endif
  return reinterpret_cast<Vec<T>>(v);
}

// Within every 16-byte piece: the lower (upper) halves of a and b, interleaved.
template <typename T>
static inline Vec<T> interleave_low(Vec<T> a, Vec<T> b) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) {
    return __builtin_shufflevector(a, b, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
  } else {
    return __builtin_shufflevector(a, b, 0, 8, 2, 10, 4, 12, 6, 14);
  }
#elif defined(__AVX2__)
  if constexpr (sizeof(T) == 4) {
    return __builtin_shufflevector(a, b, 0, 8, 1, 9, 4, 12, 5, 13);
  } else {
    return __builtin_shufflevector(a, b, 0, 4, 2, 6);
  }
#else
  if constexpr (sizeof(T) == 4) {
    return __builtin_shufflevector(a, b, 0, 4, 1, 5);
  } else {
    return __builtin_shufflevector(a, b, 0, 2);
  }
#endif
}

template <typename T>
static inline Vec<T> interleave_high(Vec<T> a, Vec<T> b) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) {
    return __builtin_shufflevector(a, b, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
  } else {
    return __builtin_shufflevector(a, b, 1, 9, 3, 11, 5, 13, 7, 15);
  }
#elif defined(__AVX2__)
  if constexpr (sizeof(T) == 4) {
    return __builtin_shufflevector(a, b, 2, 10, 3, 11, 6, 14, 7, 15);
  } else {
    return __builtin_shufflevector(a, b, 1, 5, 3, 7);
  }
#else
  if constexpr (sizeof(T) == 4) {
    return __builtin_shufflevector(a, b, 2, 6, 3, 7);
  } else {
    return __builtin_shufflevector(a, b, 1, 3);
  }
#endif
}

// pieces[i] holds a piece of each of the rows i, i + kPieceLanes, ...: their transpose, by rows of kLanes elements.
template <typename T>
static inline void transpose_pieces(const Vec<T>* pieces, T* out, int64_t out_stride) {
  if constexpr (sizeof(T) == 4) {
    const Vec<T> a = pieces[0], b = pieces[1], c = pieces[2], d = pieces[3];
    const Vec<T> ac_low = interleave_low<T>(a, c), bd_low = interleave_low<T>(b, d);
    const Vec<T> ac_high = interleave_high<T>(a, c), bd_high = interleave_high<T>(b, d);
    store(out, interleave_low<T>(ac_low, bd_low));
    store(out + out_stride, interleave_high<T>(ac_low, bd_low));
    store(out + 2 * out_stride, interleave_low<T>(ac_high, bd_high));
    store(out + 3 * out_stride, interleave_high<T>(ac_high, bd_high));
  } else {
    store(out, interleave_low<T>(pieces[0], pieces[1]));
    store(out + out_stride, interleave_high<T>(pieces[0], pieces[1]));
  }
}

// kLanes rows by kPieceLanes steps, transposed.
template <typename T>
static inline void transpose_narrow(const T* const* rows, int64_t offset, T* out, int64_t out_stride) {
  Vec<T> pieces[kPieceLanes<T>];
#pragma GCC unroll 4
  for (int i = 0; i < kPieceLanes<T>; ++i) pieces[i] = gather_pieces<T>(rows + i, offset);
  transpose_pieces<T>(pieces, out, out_stride);
}

#if defined(__AVX512F__)
// Two quarters of a, then two of b. The masked form of the instruction, for GCC 12 warns about what its plain form
// leaves undefined.
template <int order>
static inline __m512i shuffle_quarters(__m512i a, __m512i b) {
  return _mm512_maskz_shuffle_i32x4(static_cast<__mmask16>(-1), a, b, order);
}

// kLanes rows by kLanes steps. Costs more shuffles, but touches every line once: rows a multiple of 4 KiB apart, which
// are common, share one set of the first-level cache and would push each other out between two visits.
template <typename T>
static inline void transpose_square(const T* const* rows, int64_t offset, T* out, int64_t out_stride) {
  constexpr int step = kPieceLanes<T>;
  Vec<T> pieces[4][step];
#pragma GCC unroll 4
  for (int i = 0; i < step; ++i) {
    const __m512i a = _mm512_loadu_si512(rows[i] + offset), b = _mm512_loadu_si512(rows[i + step] + offset);
    const __m512i c = _mm512_loadu_si512(rows[i + 2 * step] + offset),
                  d = _mm512_loadu_si512(rows[i + 3 * step] + offset);
    const __m512i ab_low = shuffle_quarters<0x44>(a, b), ab_high = shuffle_quarters<0xEE>(a, b);
    const __m512i cd_low = shuffle_quarters<0x44>(c, d), cd_high = shuffle_quarters<0xEE>(c, d);
    pieces[0][i] = reinterpret_cast<Vec<T>>(shuffle_quarters<0x88>(ab_low, cd_low));
    pieces[1][i] = reinterpret_cast<Vec<T>>(shuffle_quarters<0xDD>(ab_low, cd_low));
    pieces[2][i] = reinterpret_cast<Vec<T>>(shuffle_quarters<0x88>(ab_high, cd_high));
    pieces[3][i] = reinterpret_cast<Vec<T>>(shuffle_quarters<0xDD>(ab_high, cd_high));
  }
#pragma GCC unroll 4
  for (int g = 0; g < 4; ++g) transpose_pieces<T>(pieces[g], out + g * step * out_stride, out_stride);
}
#endif

// x[i * stride + p], i < valid <= width, p < k. Rows from `valid` on repeat the last one: their products are computed
// and dropped.
template <typename T>
static void pack_along(const T* x, int64_t stride, int valid, int width, int64_t k, T* panel) {
  constexpr int lanes = kLanes<T>, step = kPieceLanes<T>;
  const int64_t whole = k - k % step;
  // Downwards: where width is no multiple of the lanes, the stores of the last block run into the first lanes of the
  // next step, which this block's next store or the first block then writes.
  for (int first = (width - 1) / lanes * lanes; first >= 0; first -= lanes) {
    const T* rows[lanes];
    for (int i = 0; i < lanes; ++i) rows[i] = x + (first + i < valid ? first + i : valid - 1) * stride;
    T* out = panel + first;
    int64_t p = 0;
#if defined(__AVX512F__)
    for (; p + lanes <= k; p += lanes) transpose_square<T>(rows, p, out + p * width, width);
#endif
    for (; p < whole; p += step) transpose_narrow<T>(rows, p, out + p * width, width);
  }
  for (int64_t p = whole; p < k; ++p) {
    for (int i = 0; i < width; ++i) panel[p * width + i] = x[(i < valid ? i : valid - 1) * stride + p];
  }
}

// V whole vectors of each of k rows. V is a constant, for compilers turn the copy of a variable length into a call of
// memmove.
template <typename T, int V>
static void copy_rows(const T* x, int64_t stride, int width, int64_t k, T* panel) {
  for (int64_t p = 0; p < k; ++p) {
    Vec<T> row[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) row[v] = load(x + p * stride + v * kLanes<T>);
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) store(panel + p * width + v * kLanes<T>, row[v]);
  }
}

// x[p * stride + i], i < valid <= width, p < k; at most `readable` elements of a step may be read.
template <typename T>
static void pack_across(const T* x, int64_t stride, int valid, int width, int64_t readable, int64_t k, T* panel) {
  constexpr int lanes = kLanes<T>;
  const int vectors = (valid + lanes - 1) / lanes;
  // As in pack_along, what is stored beyond the width is overwritten by the next step.
  if (vectors * lanes <= readable && vectors <= 3) {
    if (vectors == 1) return copy_rows<T, 1>(x, stride, width, k, panel);
    if (vectors == 2) return copy_rows<T, 2>(x, stride, width, k, panel);
    return copy_rows<T, 3>(x, stride, width, k, panel);
  }
  for (int64_t p = 0; p < k; ++p) {
    for (int i = 0; i < width; ++i) panel[p * width + i] = i < valid ? x[p * stride + i] : T{};
  }
}

XL_KERNELS_END
