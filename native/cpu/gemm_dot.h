// x W^T for few rows of x, by dot products along the rows of W as they lie in memory: W is read once and nothing is
// packed, which is what counts when the time is that of reading W.
#pragma once

#include "cpu/vec.h"

XL_KERNELS_BEGIN

#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kDotRows = 4, kDotColumns = 4;  // 16 sums + 4 + 1 of 32 registers
#else
constexpr int kDotRows = 2, kDotColumns = 4;  // 8 + 4 + 1 of 16
#endif

// out[i * out_stride + j] = x[i, :] . w[j, :] for R rows of x and C rows of w.
template <typename T, int R, int C>
static inline void dot_tile(int64_t k, const T* x, int64_t x_stride, const T* w, int64_t w_stride, T* out,
                            int64_t out_stride) {
  constexpr int lanes = kLanes<T>;
  // R * C sums of one FMA chain each; a single row needs more chains to keep the FMA units busy.
  constexpr int chains = R * C >= 8 ? 1 : 2;
  Vec<T> sums[chains][R][C];
#pragma GCC unroll 2
  for (int s = 0; s < chains; ++s) {
#pragma GCC unroll 4
    for (int i = 0; i < R; ++i) {
#pragma GCC unroll 4
      for (int j = 0; j < C; ++j) sums[s][i][j] = Vec<T>{};
    }
  }
  int64_t p = 0;
  for (; p + chains * lanes <= k; p += chains * lanes) {
#pragma GCC unroll 2
    for (int s = 0; s < chains; ++s) {
      const int64_t at = p + s * lanes;
      Vec<T> column[C];
#pragma GCC unroll 4
      for (int j = 0; j < C; ++j) column[j] = load(w + j * w_stride + at);
#pragma GCC unroll 4
      for (int i = 0; i < R; ++i) {
        const Vec<T> row = load(x + i * x_stride + at);
#pragma GCC unroll 4
        for (int j = 0; j < C; ++j) sums[s][i][j] += row * column[j];
      }
    }
  }
  if constexpr (chains > 1) {
#pragma GCC unroll 4
    for (int i = 0; i < R; ++i) {
#pragma GCC unroll 4
      for (int j = 0; j < C; ++j) sums[0][i][j] += sums[1][i][j];
    }
    for (; p + lanes <= k; p += lanes) {
#pragma GCC unroll 4
      for (int i = 0; i < R; ++i) {
#pragma GCC unroll 4
        for (int j = 0; j < C; ++j) sums[0][i][j] += load(x + i * x_stride + p) * load(w + j * w_stride + p);
      }
    }
  }
  if (p < k) {
    const int rest = static_cast<int>(k - p);
    Vec<T> column[C];
#pragma GCC unroll 4
    for (int j = 0; j < C; ++j) column[j] = load_partial(w + j * w_stride + p, rest);
#pragma GCC unroll 4
    for (int i = 0; i < R; ++i) {
      const Vec<T> row = load_partial(x + i * x_stride + p, rest);
#pragma GCC unroll 4
      for (int j = 0; j < C; ++j) sums[0][i][j] += row * column[j];
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < R; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < C; ++j) out[i * out_stride + j] = horizontal_sum<T>(sums[0][i][j]);
  }
}

template <typename T, int R>
static inline void dot_columns(int64_t k, const T* x, int64_t x_stride, const T* w, int64_t w_stride, int64_t columns,
                               T* out, int64_t out_stride, int64_t rows) {
  if constexpr (R > 1) {
    if (rows < R) return dot_columns<T, R - 1>(k, x, x_stride, w, w_stride, columns, out, out_stride, rows);
  }
  if (columns == kDotColumns) return dot_tile<T, R, kDotColumns>(k, x, x_stride, w, w_stride, out, out_stride);
  for (int64_t j = 0; j < columns; ++j)
    dot_tile<T, R, 1>(k, x, x_stride, w + j * w_stride, w_stride, out + j, out_stride);
}

// out[rows, columns] = x W^T: x [rows, k], W [columns, k].
template <typename T>
static void dot_products(int64_t rows, int64_t columns, int64_t k, const T* x, int64_t x_stride, const T* w,
                         int64_t w_stride, T* out, int64_t out_stride) {
  for (int64_t j = 0; j < columns; j += kDotColumns) {
    const int64_t few = columns - j < kDotColumns ? columns - j : kDotColumns;
    for (int64_t i = 0; i < rows; i += kDotRows) {
      dot_columns<T, kDotRows>(k, x + i * x_stride, x_stride, w + j * w_stride, w_stride, few, out + i * out_stride + j,
                               out_stride, rows - i < kDotRows ? rows - i : kDotRows);
    }
  }
}

XL_KERNELS_END
