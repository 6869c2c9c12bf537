// Sums over the rows of a matrix, in an order that depends on the launch alone.
#pragma once

#include "cuda/elementwise.cuh"

namespace xlformers::cuda {

// out[columns] of chunk c at out + c * columns.
template <typename In, typename Out>
struct ColumnSum {
  const In* x;
  int64_t stride;
  Out* out;
};

// Grid: x over strips of 32 * width columns, y over chunks of rows, z over matrices. Block: 32 x row_threads; a thread
// adds every row_threads-th row of its columns, four loads at once; then the block's threads of a column are added in
// order.
template <int row_threads, int width, bool accumulate, typename In, typename Out>
__global__ void __launch_bounds__(32 * row_threads) sum_columns(ColumnSum<In, Out> first, ColumnSum<In, Out> second,
                                                                int64_t rows, int64_t columns, int64_t chunk_rows) {
  using C = Compute<In>;
  const ColumnSum<In, Out> sum = blockIdx.z == 0 ? first : second;
  const int lane = static_cast<int>(threadIdx.x), y = static_cast<int>(threadIdx.y);
  const int64_t strip = static_cast<int64_t>(blockIdx.x) * 32 * width, column = strip + lane * width;
  const int64_t begin = static_cast<int64_t>(blockIdx.y) * chunk_rows;
  const int64_t end = begin + chunk_rows < rows ? begin + chunk_rows : rows;
  XL_SHARED(partial, C[row_threads][width][32]);
  C total[width] = {};
  if (column < columns) {  // then the whole pack is inside: width divides columns
    const In* const x = sum.x + column;
    int64_t row = begin + y;
    for (; row + 3 * row_threads < end; row += 4 * row_threads) {
      Pack<In, width> packs[4];
#pragma unroll
      for (int k = 0; k < 4; ++k) packs[k] = load_pack<width>(x + (row + k * row_threads) * sum.stride);
#pragma unroll
      for (int k = 0; k < 4; ++k) {
#pragma unroll
        for (int i = 0; i < width; ++i) total[i] += widen(packs[k].value[i]);
      }
    }
    for (; row < end; row += row_threads) {
      const Pack<In, width> pack = load_pack<width>(x + row * sum.stride);
#pragma unroll
      for (int i = 0; i < width; ++i) total[i] += widen(pack.value[i]);
    }
  }
#pragma unroll
  for (int i = 0; i < width; ++i) partial[y][i][lane] = total[i];
  __syncthreads();
  for (int i = y; i < width; i += row_threads) {
    if (column + i >= columns) continue;
    C result = partial[0][i][lane];
#pragma unroll
    for (int k = 1; k < row_threads; ++k) result += partial[k][i][lane];
    Out* const out = sum.out + static_cast<int64_t>(blockIdx.y) * columns + column + i;
    if constexpr (accumulate) result += static_cast<C>(widen(*out));
    *out = narrow<Out>(static_cast<Compute<Out>>(result));
  }
}

constexpr int kChunkRowThreads = 8, kFinalRowThreads = 32;

// One or two (`second.x` not null) matrices of few rows, such as partial sums, to their results.
template <bool accumulate, typename In, typename Out>
Status sum_few_rows(const Context& context, const char* name, const ColumnSum<In, Out>& first,
                    const ColumnSum<In, Out>& second, int64_t rows, int64_t columns) {
  const dim3 grid(static_cast<unsigned>(divide_up(columns, 32)), 1, second.x != nullptr ? 2 : 1);
  return launch({name, grid, dim3(32, kFinalRowThreads), 0, context.stream},
                sum_columns<kFinalRowThreads, 1, accumulate, In, Out>, first, second, rows, columns, rows);
}

}  // namespace xlformers::cuda
