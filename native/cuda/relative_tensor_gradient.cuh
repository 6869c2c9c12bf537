// What the tensor-core gradient kernels of relative attention share.
#pragma once

#include "cuda/attention_skew.cuh"
#include "cuda/attention_tensor_dropout.cuh"
#include "cuda/relative_gradient_plan.h"
#include "cuda/relative_gradient_problem.cuh"
#include "cuda/relative_tensor.cuh"

namespace xlformers::cuda {

template <typename T>
struct TensorGradientProblem {
  RelativeGradientProblem<T> gradient;  // outputs, and what has the problem's own head size
  TensorProblem<T> tensor;
  StridedRows<const T> out_gradient;  // aligned as the rows of `tensor`
  const float* key_terms;             // u . k: [batch, heads, keys], or null
};

// Base and scale of the softmax's powers of two.
constexpr float kLogOfE = 1.4426950408889634f;

// What a query has for its scores to become gradients: p = 2^(score * scale - shift), dS = p (dP kept - delta).
struct RowStatistic {
  float shift, delta;
};

// Of query i; those that do not exist have probabilities of zero.
template <typename T>
__device__ __forceinline__ RowStatistic row_statistic(const RelativeHead<T>& head, const RelativeGradientProblem<T>& gradient, int i) {
  if (i < 0 || i >= head.problem.query_length) return {1e30f, 0.0f};
  const int64_t at = head.statistic_offset(i);
  return {head.problem.log_sum_exp[at] * kLogOfE, gradient.delta[at]};
}

// What a row of a tile sees, columns [begin, end), and its query's statistic.
struct alignas(16) RowFacts {
  int begin, end;
  RowStatistic statistic;
};

template <typename T>
__device__ __forceinline__ const T* out_gradient_row(const TensorGradientProblem<T>& problem, const RelativeHead<T>& head, int i) {
  return i >= 0 && i < head.problem.query_length ? problem.out_gradient.row(head.batch, i, head.column()) : nullptr;
}

// As with_tensor_tile, with fewer sizes: three kernels are compiled for each.
template <typename Visit>
Status with_gradient_tile(int head_dim, const Visit& visit) {
  if (head_dim <= 48) return visit(std::integral_constant<int, 48>());
  if (head_dim <= 64) return visit(std::integral_constant<int, 64>());
  if (head_dim <= 96) return visit(std::integral_constant<int, 96>());
  if (head_dim <= 128) return visit(std::integral_constant<int, 128>());
  return visit(std::integral_constant<int, 256>());
}

inline int padded_head_dim(int head_dim) {
  int padded = 0;
  with_gradient_tile(head_dim, [&](auto tag) {
    padded = decltype(tag)::value;
    return ok_status();
  });
  return padded;
}

// A pair of a row whose place the problem's strides decide.
template <typename T>
__device__ __forceinline__ void store_pair_anywhere(T* to, int column, int columns, float first, float second) {
  store_pair(to, column, columns, columns % 2 == 0 && reinterpret_cast<uintptr_t>(to) % 4 == 0, first, second);
}

}  // namespace xlformers::cuda
