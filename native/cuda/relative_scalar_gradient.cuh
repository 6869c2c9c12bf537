// Tiles that the gradient kernels of relative attention without tensor cores share.
#pragma once

#include "cuda/relative_gradient_problem.cuh"
#include "cuda/relative_scalar.cuh"

namespace xlformers::cuda {

// From scores and head_scale dO . v in registers to dropout(P) and dS. (query, key) is the thread's first element; the key moves by
// `key_step` a column and by `row_step` a row.
template <typename T>
__device__ void score_gradients(const RelativeGradientHead<T>& head, int query, int key, int row_step, int key_step,
                                typename ScalarTile<Compute<T>>::Sums& scores, typename ScalarTile<Compute<T>>::Sums& products) {
  using C = Compute<T>;
  constexpr int kMicro = ScalarTile<C>::kMicro;
  const RelativeProblem<T>& problem = head.problem;
#pragma unroll
  for (int r = 0; r < kMicro; ++r) {
    const int i = query + r;
    const bool present = i < problem.query_length;
    const int begin = head.first_key(i), end = head.end_key(i);
    const C shift = present ? problem.log_sum_exp[head.statistic_offset(i)] : C{0};
    const C delta = present ? head.gradient.delta[head.statistic_offset(i)] : C{0};
    C kept[kMicro];
    kept_factors(problem.dropout, head.pair(), i, key + r * row_step, key_step, kept);
#pragma unroll
    for (int c = 0; c < kMicro; ++c) {
      const int j = key + r * row_step + c * key_step;
      const C p = j >= begin && j < end ? exponential(scores[r][c] - shift) : C{0};
      scores[r][c] = p * kept[c];
      products[r][c] = p * (products[r][c] * kept[c] - delta);
    }
  }
}

// total += the sum of the tile's column threadIdx.x.
template <typename C>
__device__ __forceinline__ void add_column_sum(const C* tile, C& total) {
  using Tile = ScalarTile<C>;
  if (threadIdx.x >= Tile::kSide) return;
  for (int i = 0; i < Tile::kSide; ++i) total += tile[i * Tile::kStride + threadIdx.x];
}

// The thread's part of a row of the head.
template <typename T, int kColumns>
__device__ void write_columns(const Compute<T> (&values)[kColumns], Compute<T> factor, int columns, T* to) {
#pragma unroll
  for (int n = 0; n < kColumns; ++n) {
    const int column = head_column<Compute<T>>(n);
    if (column < columns) to[column] = narrow<T>(values[n] * factor);
  }
}

// Gradients of the keys and values from key0 on, and the sum of dS of key key0 + threadIdx.x.
template <typename T, int kColumns, typename C>
__device__ void write_key_gradients(const RelativeGradientProblem<T>& problem, const RelativeHead<T>& head, int key0,
                                    const C (&key_sums)[ScalarTile<C>::kMicro][kColumns],
                                    const C (&value_sums)[ScalarTile<C>::kMicro][kColumns], C column_sum) {
  constexpr int kMicro = ScalarTile<C>::kMicro;
  const int keys = head.problem.band.keys, columns = head.problem.head_dim;
#pragma unroll
  for (int r = 0; r < kMicro; ++r) {
    const int key = key0 + scalar_y() * kMicro + r;
    if (key >= keys) continue;
    write_columns<T>(key_sums[r], 1, columns, problem.key_gradient.row(head.batch, key, head.column()));
    write_columns<T>(value_sums[r], 1, columns, problem.value_gradient.row(head.batch, key, head.column()));
  }
  const int key = key0 + static_cast<int>(threadIdx.x);
  if (threadIdx.x < ScalarTile<C>::kSide && key < keys) problem.key_sums[static_cast<int64_t>(head.pair()) * keys + key] = column_sum;
}

// A block of a kernel for dR: rows of r of one head, over a part of the batch.
template <typename C>
struct PositionBlock {
  int row0, head, split;
  int batch_begin, batch_end;

  template <typename T>
  __device__ explicit PositionBlock(const RelativeGradientProblem<T>& problem) {
    const RelativeProblem<T>& forward = problem.forward;
    const int block = static_cast<int>(blockIdx.x);
    const int tiles = (forward.position_rows + ScalarTile<C>::kSide - 1) / ScalarTile<C>::kSide;
    row0 = block % tiles * ScalarTile<C>::kSide;
    head = block / tiles % forward.heads;
    split = block / tiles / forward.heads;
    batch_begin = static_cast<int>(static_cast<int64_t>(forward.batch) * split / problem.splits);
    batch_end = static_cast<int>(static_cast<int64_t>(forward.batch) * (split + 1) / problem.splits);
  }

  // The part of the gradient, and the sum of dS of row row0 + threadIdx.x.
  template <typename T, int kColumns>
  __device__ void write(const RelativeGradientProblem<T>& problem, const C (&sums)[ScalarTile<C>::kMicro][kColumns], C row_total) const {
    constexpr int kMicro = ScalarTile<C>::kMicro;
    const RelativeProblem<T>& forward = problem.forward;
#pragma unroll
    for (int r = 0; r < kMicro; ++r) {
      const int row = row0 + scalar_y() * kMicro + r;
      if (row >= forward.position_rows) continue;
      C* const to = problem.partial + ((static_cast<int64_t>(split) * forward.position_rows + row) * forward.heads + head) * forward.head_dim;
      write_columns<C>(sums[r], 1, forward.head_dim, to);
    }
    const int row = row0 + static_cast<int>(threadIdx.x);
    if (threadIdx.x < ScalarTile<C>::kSide && row < forward.position_rows) {
      problem.partial_sums[(static_cast<int64_t>(split) * forward.heads + head) * forward.position_rows + row] = row_total;
    }
  }
};

}  // namespace xlformers::cuda
