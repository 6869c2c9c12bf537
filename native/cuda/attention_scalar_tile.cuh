// Tiles of attention without tensor cores: fp32 and fp64, products in registers from shared memory.
//
// A block has 16 x 16 threads. Thread (x, y) owns kMicro x kMicro elements of a tile [kSide rows, kSide columns], rows y * kMicro on and
// columns x * kMicro on. Operands are staged kStep columns at a time, transposed, so that a thread reads its rows by one vector.
#pragma once

#include "cuda/numeric.cuh"
#include "cuda/reduce.cuh"

namespace xlformers::cuda {

constexpr int kScalarThreads = 256;
constexpr int kScalarStep = 16;

template <typename C>
struct ScalarTile {
  static constexpr int kMicro = 16 / sizeof(C);  // 4 floats or 2 doubles: one vector
  static constexpr int kSide = 16 * kMicro;
  static constexpr int kWindow = 2 * kSide;       // diagonals of a tile, and one
  static constexpr int kStride = kSide + kMicro;  // of a staged column: whole vectors, few bank conflicts
  static constexpr int kWindowStride = kWindow + kMicro;
  // A tile in shared memory [inner][kStride], with rows of zeros before and behind it for products along diagonals.
  static constexpr int kMargin = kMicro - 1;
  static constexpr int kElements = (kSide + 2 * kMargin) * kStride;

  using Sums = C[kMicro][kMicro];

  // Elements to stage operands in; `columns`: of the head that a thread owns.
  __host__ __device__ static constexpr int staging(int columns) {
    const int scores = kScalarStep * (kStride + kWindowStride);
    const int rows = kScalarStep * 16 * columns;
    return scores > rows ? scores : rows;
  }
};

__device__ __forceinline__ int scalar_x() { return static_cast<int>(threadIdx.x) % 16; }
__device__ __forceinline__ int scalar_y() { return static_cast<int>(threadIdx.x) / 16; }

__device__ __forceinline__ void load_vector(const float* from, float (&to)[4]) {
  const float4 v = *reinterpret_cast<const float4*>(from);
  to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
}
__device__ __forceinline__ void load_vector(const double* from, double (&to)[2]) {
  const double2 v = *reinterpret_cast<const double2*>(from);
  to[0] = v.x, to[1] = v.y;
}

// One side of a product: row(i) is where row i lies, null: zeros. What is read is factor * (row + bias); bias may be null.
template <typename T, typename RowAt>
struct RowOperand {
  RowAt row;
  Compute<T> factor;
  const T* bias;
};
template <typename T, typename RowAt>
__device__ RowOperand<T, RowAt> row_operand(RowAt row, Compute<T> factor = 1, const T* bias = nullptr) {
  return {row, factor, bias};
}

// staged[k * stride + i] = column first + k of row i, k < kScalarStep, i < rows.
template <typename C, typename T, typename RowAt>
__device__ void stage_columns(const RowOperand<T, RowAt>& operand, int rows, int first, int columns, C* staged, int stride) {
  const int k = static_cast<int>(threadIdx.x) % kScalarStep;
  const int column = first + k;
  const bool inside = column < columns;
  const C shift = inside && operand.bias != nullptr ? widen(operand.bias[column]) : C{0};
#pragma unroll 2  // more loads in flight would take registers that the sums need
  for (int i = static_cast<int>(threadIdx.x) / kScalarStep; i < rows; i += kScalarThreads / kScalarStep) {
    const T* const row = operand.row(i);
    staged[k * stride + i] = inside && row != nullptr ? operand.factor * (widen(row[column]) + shift) : C{0};
  }
}

// staged[i * width + column] = row first + i, i < kScalarStep, zeros from `columns` on.
template <typename C, typename T, typename RowAt>
__device__ void stage_rows(const RowOperand<T, RowAt>& operand, int first, int columns, C* staged, int width) {
  const int i = scalar_y();
  const T* const row = operand.row(first + i);
  for (int column = scalar_x(); column < width; column += 16) {
    const bool inside = column < columns && row != nullptr;
    const C shift = inside && operand.bias != nullptr ? widen(operand.bias[column]) : C{0};
    staged[i * width + column] = inside ? operand.factor * (widen(row[column]) + shift) : C{0};
  }
}

// sums[r][c] += left row . right row, over `columns` of the head.
template <typename C, typename Left, typename Right>
__device__ void add_products(const Left& left, const Right& right, int columns, C* staging, typename ScalarTile<C>::Sums& sums) {
  using Tile = ScalarTile<C>;
  C* const lefts = staging;
  C* const rights = staging + kScalarStep * Tile::kStride;
  for (int first = 0; first < columns; first += kScalarStep) {
    __syncthreads();
    stage_columns(left, Tile::kSide, first, columns, lefts, Tile::kStride);
    stage_columns(right, Tile::kSide, first, columns, rights, Tile::kStride);
    __syncthreads();
    const int steps = min(kScalarStep, columns - first);
#pragma unroll 4
    for (int k = 0; k < steps; ++k) {
      C a[Tile::kMicro], b[Tile::kMicro];
      load_vector(lefts + k * Tile::kStride + scalar_y() * Tile::kMicro, a);
      load_vector(rights + k * Tile::kStride + scalar_x() * Tile::kMicro, b);
#pragma unroll
      for (int r = 0; r < Tile::kMicro; ++r) {
#pragma unroll
        for (int c = 0; c < Tile::kMicro; ++c) sums[r][c] += a[r] * b[c];
      }
    }
  }
}

// sums[r][c] += left row r . window row kSide - 1 - r + c: the relative term, without a shift of anything.
template <typename C, typename Left, typename Window>
__device__ void add_diagonal_products(const Left& left, const Window& window, int columns, C* staging, typename ScalarTile<C>::Sums& sums) {
  using Tile = ScalarTile<C>;
  C* const lefts = staging;
  C* const diagonals = staging + kScalarStep * Tile::kStride;
  // The window's row of the thread's last row and first column.
  const int corner = Tile::kSide - Tile::kMicro + (scalar_x() - scalar_y()) * Tile::kMicro;
  for (int first = 0; first < columns; first += kScalarStep) {
    __syncthreads();
    stage_columns(left, Tile::kSide, first, columns, lefts, Tile::kStride);
    stage_columns(window, Tile::kWindow, first, columns, diagonals, Tile::kWindowStride);
    __syncthreads();
    const int steps = min(kScalarStep, columns - first);
#pragma unroll 4
    for (int k = 0; k < steps; ++k) {
      C a[Tile::kMicro], low[Tile::kMicro], high[Tile::kMicro];
      load_vector(lefts + k * Tile::kStride + scalar_y() * Tile::kMicro, a);
      load_vector(diagonals + k * Tile::kWindowStride + corner, low);
      load_vector(diagonals + k * Tile::kWindowStride + corner + Tile::kMicro, high);
#pragma unroll
      for (int r = 0; r < Tile::kMicro; ++r) {
#pragma unroll
        for (int c = 0; c < Tile::kMicro; ++c) {
          const int x = Tile::kMicro - 1 - r + c;
          sums[r][c] += a[r] * (x < Tile::kMicro ? low[x % Tile::kMicro] : high[x % Tile::kMicro]);
        }
      }
    }
  }
}

// The column of the head that is a thread's n-th, in groups of a vector.
template <typename C>
__device__ __forceinline__ int head_column(int n) {
  constexpr int kMicro = ScalarTile<C>::kMicro;
  return n / kMicro * ScalarTile<C>::kSide + scalar_x() * kMicro + n % kMicro;
}

// One inner row: out[r][n] += left[r] * staged row.
template <typename C, int kColumns>
__device__ __forceinline__ void add_outer(const C (&left)[ScalarTile<C>::kMicro], const C* staged_row,
                                          C (&out)[ScalarTile<C>::kMicro][kColumns]) {
  constexpr int kMicro = ScalarTile<C>::kMicro;
#pragma unroll
  for (int n = 0; n < kColumns; n += kMicro) {
    C right[kMicro];
    load_vector(staged_row + head_column<C>(n), right);
#pragma unroll
    for (int r = 0; r < kMicro; ++r) {
#pragma unroll
      for (int c = 0; c < kMicro; ++c) out[r][n + c] += left[r] * right[c];
    }
  }
}

// out[r][n] += sum over inner of tile[inner][row r] * rows[inner][column n]. `tile` is seen by all threads after a barrier in here.
template <typename C, int kColumns, typename Rows>
__device__ void add_tile_product(const C* tile, const Rows& rows, int columns, C* staging, C (&out)[ScalarTile<C>::kMicro][kColumns]) {
  using Tile = ScalarTile<C>;
  constexpr int width = 16 * kColumns;
  for (int first = 0; first < Tile::kSide; first += kScalarStep) {
    __syncthreads();
    stage_rows(rows, first, columns, staging, width);
    __syncthreads();
#pragma unroll 4
    for (int k = 0; k < kScalarStep; ++k) {
      C left[Tile::kMicro];
      load_vector(tile + (first + k) * Tile::kStride + scalar_y() * Tile::kMicro, left);
      add_outer(left, staging + k * width, out);
    }
  }
}

// out[r][n] += sum over window rows x of tile[x - (kSide - 1) + r][row r] * window[x][column n]: the transpose of add_diagonal_products.
// The margins of the tile are zeros.
template <typename C, int kColumns, typename Window>
__device__ void add_diagonal_tile_product(const C* tile, const Window& window, int columns, C* staging,
                                          C (&out)[ScalarTile<C>::kMicro][kColumns]) {
  using Tile = ScalarTile<C>;
  constexpr int width = 16 * kColumns;
  const int row = scalar_y() * Tile::kMicro;
  // Window rows that a row of this thread reaches.
  const int begin = Tile::kSide - row - Tile::kMicro;
  const int end = 2 * Tile::kSide - 1 - row;
  for (int first = 0; first < Tile::kWindow; first += kScalarStep) {
    __syncthreads();
    stage_rows(window, first, columns, staging, width);
    __syncthreads();
    for (int x = max(first, begin); x < min(first + kScalarStep, end); ++x) {
      C left[Tile::kMicro];
#pragma unroll
      for (int r = 0; r < Tile::kMicro; ++r) left[r] = tile[(x - (Tile::kSide - 1) + row + r) * Tile::kStride + row + r];
      add_outer(left, staging + (x - first) * width, out);
    }
  }
}

// The thread's elements to tile[row * row_stride + column * column_stride]; one of the strides is kStride, the other 1.
template <typename C>
__device__ void store_tile(const typename ScalarTile<C>::Sums& values, C* tile, int row_stride, int column_stride) {
  constexpr int kMicro = ScalarTile<C>::kMicro;
  C* const corner = tile + scalar_y() * kMicro * row_stride + scalar_x() * kMicro * column_stride;
#pragma unroll
  for (int r = 0; r < kMicro; ++r) {
#pragma unroll
    for (int c = 0; c < kMicro; ++c) corner[r * row_stride + c * column_stride] = values[r][c];
  }
}

template <typename C>
__device__ void clear_margins(C* tile) {
  using Tile = ScalarTile<C>;
  for (int i = static_cast<int>(threadIdx.x); i < Tile::kMargin * Tile::kStride; i += kScalarThreads) {
    tile[i - Tile::kMargin * Tile::kStride] = 0;
    tile[i + Tile::kSide * Tile::kStride] = 0;
  }
}

// Sum and maximum over the 16 threads that share rows.
template <typename C>
__device__ __forceinline__ C row_sum(C value) {
#pragma unroll
  for (int step = 8; step > 0; step /= 2) value += __shfl_xor_sync(0xFFFFFFFFu, value, step);
  return value;
}
template <typename C>
__device__ __forceinline__ C row_max(C value) {
#pragma unroll
  for (int step = 8; step > 0; step /= 2) value = max(value, __shfl_xor_sync(0xFFFFFFFFu, value, step));
  return value;
}

template <typename C>
__device__ __forceinline__ C warp_max(C value) {
  value = row_max(value);
  return max(value, __shfl_xor_sync(0xFFFFFFFFu, value, 16));
}

__device__ __forceinline__ float exponential(float x) { return expf(x); }
__device__ __forceinline__ double exponential(double x) { return exp(x); }

}  // namespace xlformers::cuda
