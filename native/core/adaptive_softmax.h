// The softmaxes of the adaptive softmax: which weights make their logits. Functions are static for the reason given in status.h.
#pragma once

#include "core/operators.h"

namespace xlformers {

// Columns of logits that come from one weight matrix.
struct LogitPart {
  const void* weight;  // [columns, width]
  const void* bias;    // [columns] or null
  void* weight_gradient;
  void* bias_gradient;
  int64_t columns;
};

// One softmax: a tail cluster's words, or the head's words followed by one column per tail.
struct Softmax {
  const SoftmaxCluster* cluster;
  LogitPart parts[2];
  int part_count;
  int64_t columns;
};

static inline Softmax softmax_of(const AdaptiveSoftmaxParams& params, int32_t index) {
  const SoftmaxCluster& cluster = params.clusters[index];
  Softmax softmax = {};
  softmax.cluster = &cluster;
  softmax.parts[0] = {cluster.weight, cluster.bias, cluster.weight_gradient, cluster.bias_gradient, cluster.size};
  softmax.part_count = 1;
  softmax.columns = cluster.size;
  if (index == 0 && params.cluster_count > 1) {
    softmax.parts[1] = {params.cluster_weight, params.cluster_bias, params.cluster_weight_gradient,
                        params.cluster_bias_gradient, params.cluster_count - 1};
    softmax.part_count = 2;
    softmax.columns += params.cluster_count - 1;
  }
  return softmax;
}

// One side of a matrix product.
template <typename T>
struct Operand {
  const T* data;
  int64_t stride;
  bool transposed;
};

// c[rows, columns] (+)= op(a) op(b) + bias
template <typename T>
static inline MatrixProductParams product_params(DType dtype, int64_t rows, int64_t columns, int64_t inner, Operand<T> a,
                                                 Operand<T> b, const T* bias, bool accumulate, T* c, int64_t c_stride) {
  MatrixProductParams params = {};
  params.dtype = params.c_dtype = dtype;
  params.rows = rows;
  params.columns = columns;
  params.inner = inner;
  params.transpose_a = a.transposed;
  params.transpose_b = b.transposed;
  params.accumulate = accumulate;
  params.activation = Activation::none;
  params.a = a.data;
  params.a_stride = a.stride;
  params.b = b.data;
  params.b_stride = b.stride;
  params.bias = bias;
  params.c = c;
  params.c_stride = c_stride;
  return params;
}

// The head's column of tail `index`, counted from the end of the head's words.
static inline int64_t tail_column(const AdaptiveSoftmaxParams& params, int32_t index) {
  return params.reversed_clusters != 0 ? params.cluster_count - 1 - index : index - 1;
}

}  // namespace xlformers
