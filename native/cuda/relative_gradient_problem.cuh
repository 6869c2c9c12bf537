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
  // Where dR is made beside dQ: parts of the queries of a batch row, so that splits are batch * chunks, and `partial` is sums of dU^T Q,
  // [splits, heads, position_rows, padded_head_dim]. 0: by a kernel of its own.
  int chunks;
  int padded_head_dim;
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

template <typename T>
JoinedRows<T> gradient_rows(void* memory, void* current, const RelativeAttentionParams& params) {
  return {{static_cast<T*>(memory), params.memory.row_stride, params.memory.batch_stride},
          {static_cast<T*>(current), params.current.row_stride, params.current.batch_stride},
          static_cast<int>(params.memory.length)};
}

// Parts of the batch for dR: two blocks a multiprocessor keep it busy.
template <typename T>
int position_splits(const Context& context, const RelativeProblem<T>& forward) {
  const int64_t tiles = (forward.position_rows + 63) / 64;
  const int64_t blocks = std::max<int64_t>(1, forward.heads * tiles);
  const int64_t wanted = (2 * context.device.multiprocessors + blocks - 1) / blocks;
  return static_cast<int>(std::clamp<int64_t>(wanted, 1, std::max(forward.batch, 1)));
}

}  // namespace xlformers::cuda
