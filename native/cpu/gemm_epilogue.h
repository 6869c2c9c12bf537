// What matrix_product does to a finished tile of op(A) op(B), while the tile is in the cache:
//   c (+)= activation(tile + bias) + residual, and pre_activation = tile + bias.
#pragma once

#include "cpu/activation_math.h"

XL_KERNELS_BEGIN

// Pointers to the whole operands; null when absent.
template <typename T>
struct Epilogue {
  const T* bias;
  const T* residual;
  int64_t residual_stride;
  T* pre_activation;
  T* c;
  int64_t c_stride;
  bool accumulate;
  Activation activation;

  static Epilogue of(const MatrixProductParams& params) {
    return {static_cast<const T*>(params.bias),
            static_cast<const T*>(params.residual),
            params.residual_stride,
            static_cast<T*>(params.pre_activation),
            static_cast<T*>(params.c),
            params.c_stride,
            params.accumulate != 0,
            params.activation};
  }
};

// One row: `count` columns from column `column` on; `at` is c's (and pre_activation's) offset of the first of them.
template <Activation kind, typename T>
static inline void finish_row(const Epilogue<T>& epilogue, const T* tile, int64_t row, int64_t column, int64_t count) {
  constexpr int lanes = kLanes<T>;
  const T* bias = epilogue.bias ? epilogue.bias + column : nullptr;
  const T* residual = epilogue.residual ? epilogue.residual + row * epilogue.residual_stride + column : nullptr;
  T* pre_activation = epilogue.pre_activation ? epilogue.pre_activation + row * epilogue.c_stride + column : nullptr;
  T* c = epilogue.c + row * epilogue.c_stride + column;
  int64_t j = 0;
  for (; j + lanes <= count; j += lanes) {
    Vec<T> value = load(tile + j);
    if (bias) value += load(bias + j);
    if (pre_activation) store(pre_activation + j, value);
    value = activate<kind, T>(value);
    if (residual) value += load(residual + j);
    if (epilogue.accumulate) value += load(c + j);
    store(c + j, value);
  }
  if (j < count) {
    const int rest = static_cast<int>(count - j);
    Vec<T> value = load_partial(tile + j, rest);
    if (bias) value += load_partial(bias + j, rest);
    if (pre_activation) store_partial(pre_activation + j, value, rest);
    value = activate<kind, T>(value);
    if (residual) value += load_partial(residual + j, rest);
    if (epilogue.accumulate) value += load_partial(c + j, rest);
    store_partial(c + j, value, rest);
  }
}

// Announces the lines of c and residual that finish_tile will touch.
template <typename T>
static inline void prefetch_tile(const Epilogue<T>& epilogue, int64_t row, int64_t rows, int64_t column,
                                 int64_t columns) {
  constexpr int64_t line = 64 / static_cast<int64_t>(sizeof(T));
  for (int64_t i = row; i < row + rows; ++i) {
    for (int64_t j = column; j < column + columns; j += line) {
      __builtin_prefetch(epilogue.c + i * epilogue.c_stride + j, 1, 3);
      if (epilogue.residual) __builtin_prefetch(epilogue.residual + i * epilogue.residual_stride + j, 0, 3);
    }
  }
}

// tile[rows, columns] is the part of the product that starts at (row, column).
template <typename T>
static void finish_tile(const Epilogue<T>& epilogue, const T* tile, int64_t tile_stride, int64_t row, int64_t rows,
                        int64_t column, int64_t columns) {
  (void)with_activation(epilogue.activation, [&](auto tag) {
    for (int64_t i = 0; i < rows; ++i) {
      finish_row<decltype(tag)::value, T>(epilogue, tile + i * tile_stride, row + i, column, columns);
    }
  });
}

XL_KERNELS_END
