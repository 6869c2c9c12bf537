// What matrix_product does to a finished tile of op(A) op(B), while the tile is in the cache:
//   c (+)= dropout(activation(tile + bias)) + residual, and pre_activation = tile + bias.
#pragma once

#include "cpu/activation_math.h"
#include "cpu/philox_vec.h"

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
  DropoutMask mask;
  int64_t columns;

  static Epilogue of(const MatrixProductParams& params) {
    return {static_cast<const T*>(params.bias),
            static_cast<const T*>(params.residual),
            params.residual_stride,
            static_cast<T*>(params.pre_activation),
            static_cast<T*>(params.c),
            params.c_stride,
            params.accumulate != 0,
            params.activation,
            dropout_mask(params.dropout, params.seed, params.offset),
            params.columns};
  }
};

// One row: `count` columns from column `column` on. `kept`: their numbers, where the epilogue drops.
template <Activation kind, bool drops, typename T>
static inline void finish_row(const Epilogue<T>& epilogue, const T* tile, int64_t row, int64_t column, int64_t count,
                              const uint16_t* kept) {
  constexpr int lanes = kLanes<T>;
  const T* bias = epilogue.bias ? epilogue.bias + column : nullptr;
  const T* residual = epilogue.residual ? epilogue.residual + row * epilogue.residual_stride + column : nullptr;
  T* pre_activation = epilogue.pre_activation ? epilogue.pre_activation + row * epilogue.c_stride + column : nullptr;
  T* c = epilogue.c + row * epilogue.c_stride + column;
  const T scale = static_cast<T>(epilogue.mask.scale);
  int64_t j = 0;
  for (; j + lanes <= count; j += lanes) {
    Vec<T> value = load(tile + j);
    if (bias) value += load(bias + j);
    if (pre_activation) store(pre_activation + j, value);
    value = activate<kind, T>(value);
    if constexpr (drops) value = dropped<T>(value, kept + j, epilogue.mask.threshold, scale);
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
    if constexpr (drops) value = dropped<T>(value, kept + j, epilogue.mask.threshold, scale);
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

// The dropout numbers of `count` <= kPhiloxLanes / 2 columns of two rows, one after the other: where the rows begin
// with a block, a vector of blocks serves both.
template <typename T>
struct DropoutOfRows {
  static constexpr int kColumns = kPhiloxLanes / 2;
  uint16_t memory[2 * (kColumns + kDropoutPadding)];
  const uint16_t* row[2];

  DropoutOfRows(const Epilogue<T>& epilogue, int64_t first_row, int64_t column, int64_t count) {
    const int64_t first = first_row * epilogue.columns + column, second = first + epilogue.columns;
    if (((first | second) & 7) == 0) {
      Vec<uint64_t> lane, of_second;
      for (int i = 0; i < kPhiloxBlocks; ++i) {
        lane[i] = static_cast<uint64_t>(i);
        of_second[i] = 2 * i < kPhiloxBlocks ? 0 : ~uint64_t{0};
      }
      const int64_t gap = second - kColumns - first;
      const Vec<uint64_t> blocks = broadcast(static_cast<uint64_t>(first >> 3)) + lane +
                                   (broadcast(static_cast<uint64_t>(gap >> 3)) & of_second);
      philox_lanes16(epilogue.mask.stream, blocks, 0, memory);
      row[0] = memory;
      row[1] = memory + kColumns;
    } else {
      row[0] = dropout_lanes(epilogue.mask.stream, first, count, memory);
      row[1] = dropout_lanes(epilogue.mask.stream, second, count, memory + kColumns + kDropoutPadding);
    }
  }
};

template <Activation kind, typename T>
static void finish_dropped_tile(const Epilogue<T>& epilogue, const T* tile, int64_t tile_stride, int64_t row,
                                int64_t rows, int64_t column, int64_t columns) {
  constexpr int64_t kColumns = DropoutOfRows<T>::kColumns;
  for (int64_t j = 0; j < columns; j += kColumns) {
    const int64_t count = columns - j < kColumns ? columns - j : kColumns;
    for (int64_t i = 0; i < rows; i += 2) {
      const DropoutOfRows<T> kept(epilogue, row + i, column + j, count);
      for (int64_t k = 0; k < 2 && i + k < rows; ++k) {
        finish_row<kind, true, T>(epilogue, tile + (i + k) * tile_stride + j, row + i + k, column + j, count,
                                  kept.row[k]);
      }
    }
  }
}

// tile[rows, columns] is the part of the product that starts at (row, column).
template <typename T>
static void finish_tile(const Epilogue<T>& epilogue, const T* tile, int64_t tile_stride, int64_t row, int64_t rows,
                        int64_t column, int64_t columns) {
  (void)with_activation(epilogue.activation, [&](auto tag) {
    constexpr Activation kind = decltype(tag)::value;
    if (epilogue.mask.scale != 1) {
      finish_dropped_tile<kind, T>(epilogue, tile, tile_stride, row, rows, column, columns);
      return;
    }
    for (int64_t i = 0; i < rows; ++i) {
      finish_row<kind, false, T>(epilogue, tile + i * tile_stride, row + i, column, columns, nullptr);
    }
  });
}

XL_KERNELS_END
