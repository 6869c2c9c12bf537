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
    if (problem.dropout.active()) {
      dropout_factors(problem.dropout, head.pair(), i, key + r * row_step, key_step, kept);
    } else {
#pragma unroll
      for (int c = 0; c < kMicro; ++c) kept[c] = 1;
    }
#pragma unroll
    for (int c = 0; c < kMicro; ++c) {
      const int j = key + r * row_step + c * key_step;
      const C p = j >= begin && j < end ? exponential(scores[r][c] - shift) : C{0};
      scores[r][c] = p * kept[c];
      products[r][c] = p * (products[r][c] * kept[c] - delta);
    }
  }
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

}  // namespace xlformers::cuda
