// Losses. The conventions: core/operators.h.
#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace xlformers {

constexpr int32_t kIgnoredLabel = -100;  // labels with this value have loss 0 and no gradient, as in Hugging Face

// One cluster of the projected adaptive softmax (Grave et al. 2017). Cluster 0 is the head (shortlist).
struct SoftmaxCluster {
  int64_t first_id, size;  // ids [first_id, first_id + size)
  int64_t width;           // columns of weight; the projection is [d_model, width], null: width == d_model
  const void* weight;      // [size, width]
  const void* bias;        // [size] or null
  const void* projection;
  void* weight_gradient;  // gradient operator only; overwritten; null: not wanted
  void* bias_gradient;
  void* projection_gradient;
};

// head logits = h P_0 W_0^T + b_0 (size_0 columns), followed by (cluster_count - 1) cluster logits h P_0 W_c^T + b_c.
// log p(id) = head log-softmax for the shortlist; else head log-softmax[column of cluster c] + log-softmax of the tail's logits.
// The column of tail c = 1.. is size_0 + c - 1, or size_0 + (cluster_count - 1) - c when reversed_clusters != 0 (original PyTorch code).
struct AdaptiveSoftmaxParams {
  DType dtype;
  int64_t rows, d_model;
  int32_t reversed_clusters;
  const void* hidden;     // [rows, d_model]
  const int32_t* labels;  // [rows]; kIgnoredLabel: loss 0. Ids out of range: StatusCode::out_of_range. Unused by adaptive_log_softmax
  const void* cluster_weight;  // [cluster_count - 1, width of cluster 0] or null
  const void* cluster_bias;
  void* loss;                 // adaptive_softmax_loss: [rows] negative log-likelihoods (output)
  void* log_probabilities;    // adaptive_log_softmax: [rows, vocabulary] (output)
  const void* loss_gradient;  // adaptive_softmax_loss_gradient: [rows]
  void* hidden_gradient;      // [rows, d_model], overwritten
  void* cluster_weight_gradient;
  void* cluster_bias_gradient;
  int32_t cluster_count;
  SoftmaxCluster clusters[1];  // cluster_count entries
};

// loss[n] = logSumExp(logits[n]) - logits[n, labels[n]], 0 for kIgnoredLabel.
struct SoftmaxCrossEntropyParams {
  DType dtype;
  int64_t rows, columns;
  const void* logits;
  const int32_t* labels;
  void* log_sum_exp;  // [rows]: written by the forward operator, read by the gradient
  void* loss;         // [rows]
  const void* loss_gradient;
  void* logits_gradient;
};

// out[0] = sum(x) / number of entries != 0, or with labels != kIgnoredLabel where labels are given (0 when there is none); out[1] = that
// number. The sum runs in double, in a fixed order.
struct MeanNonzeroParams {
  DType dtype;
  int64_t count;
  const void* x;
  const int32_t* labels;  // [count] or null
  void* out;              // [2]
};

// x_gradient[i] = x[i] counts ? out_gradient[0] / out[1] : 0
struct MeanNonzeroGradientParams {
  DType dtype;
  int64_t count;
  const void* x;
  const int32_t* labels;
  const void* out;
  const void* out_gradient;
  void* x_gradient;
};

// squared_error: loss[i] = (x - target)^2; binary_cross_entropy: loss[i] = max(x, 0) - x target + log(1 + exp(-|x|)).
// The gradients multiply by loss_gradient[i].
struct ElementLossParams {
  DType dtype;
  int64_t count;
  const void* x;
  const void* target;
  void* loss;
  const void* loss_gradient;
  void* x_gradient;
};

}  // namespace xlformers
