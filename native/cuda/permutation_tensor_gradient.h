// The tensor-core kernels of permutation_attention_gradient by number type; their instances are compiled in files of their own.
#pragma once

#include "cuda/permutation_forward.h"

namespace xlformers::cuda {

// Larger heads have the kernels without tensor cores.
constexpr int kTensorGradientHeadSize = 64;

template <typename T>
constexpr bool has_tensor_gradient(int head_dim) {
  return sizeof(T) == 2 && head_dim <= kTensorGradientHeadSize;
}

template <typename T>
struct TensorGradientStream {
  PermutationStream<T> stream;        // aligned, as that of the tensor problem
  StridedRows<const T> out_gradient;  // likewise
  StridedRows<T> query_gradient;
  const float* delta;   // [batch, heads, length]: dO . O
  float* segment_sums;  // [batch, heads, length, 2]: sums of dS over keys of the same and of another segment
};

template <typename T>
struct KeyGradientRows {
  JoinedRows<T> keys, values;
  float* key_sums;  // [batch, heads, keys]: sums of dS over the rows of both streams
};

// Sums of dR, by batch row and chunk of the rows of both streams.
struct PositionPartials {
  float* sums;    // of dU^T Q: [batch, chunks, heads, position_rows, kTensorGradientHeadSize]
  float* totals;  // of dU: [batch, chunks, heads, position_rows]
  int chunks;
  bool begin;  // there is nothing yet
};

// The gradient of a stream's queries; adds to the sums of dR.
template <typename T>
Status launch_tensor_query_gradient(const Context& context, const PermutationTensorProblem<T>& tensor, const TensorGradientStream<T>& gradient,
                                    const PositionPartials& positions);

// Those of keys and values.
template <typename T>
Status launch_tensor_key_gradient(const Context& context, const PermutationTensorProblem<T>& tensor, const TensorGradientStream<T>& content,
                                  const TensorGradientStream<T>& query, const KeyGradientRows<T>& to);

}  // namespace xlformers::cuda
