// A relative_attention_gradient problem as kernels take it.
#pragma once

#include "cuda/relative_problem.cuh"

namespace xlformers::cuda {

// With P the probabilities, dP = dropout(head_scale dO V^T) and delta_i = dO_i . O_i:  dS = P (dP - delta).
//   dQ = scale (dS K + dU R), where dU is dS along diagonals
//   dK = dS^T scale (Q + u),  dV = head_scale dropout(P)^T dO,  dR = dU^T scale (Q + v)
//   du = scale sum over keys of dc_j k_j, where dc is the sum of dS over queries
//   dv = scale sum over positions of dd_p r_p, where dd is the sum of dU over queries and batch
template <typename T>
struct RelativeGradientProblem {
  using C = Compute<T>;

  RelativeProblem<T> forward;
  const T* out_gradient;
  StridedRows<T> query_gradient;
  JoinedRows<T> key_gradient, value_gradient;
  T* position_gradient;
  C* delta;         // [batch, heads, query]
  C* key_sums;      // dc: [batch, heads, keys], or null
  C* partial;       // of dR: [splits, position_rows, heads, head_dim]
  C* partial_sums;  // of dd: [splits, heads, position_rows]
  int splits;       // of the batch, for dR
};

template <typename T>
struct RelativeGradientHead : RelativeHead<T> {
  const RelativeGradientProblem<T>& gradient;

  __device__ RelativeGradientHead(const RelativeGradientProblem<T>& the_problem, int batch, int head)
      : RelativeHead<T>(the_problem.forward, batch, head), gradient(the_problem) {}

  __device__ const T* out_gradient(int i) const {
    return i >= 0 && i < gradient.forward.query_length ? gradient.out_gradient + this->out_offset(i) : nullptr;
  }
};

}  // namespace xlformers::cuda
