// The operators: their numbers, and their parameter blocks in operators/. They are the contract between the addon and every backend.
//
// - All blocks are plain C layout. Pointers are device pointers. Strides and sizes count elements, not bytes.
// - Matrices are row-major; `x_stride` is the distance of two rows. A row is contiguous.
// - An operator may write only what its block calls an output; outputs never alias inputs unless the comment says so.
// - Optional pointers are null when absent. "Accumulate" adds to what the output holds instead of overwriting it.
// - `dtype` is the type of every floating operand; ids and labels are int32. Statistics (mean, rstd, log_sum_exp, losses and their
//   gradients, norms) have the operand's type, f32 for bf16 and f16.
// - A block that ends in an array is enqueued with as many entries as its count says.
#pragma once

#include <cstdint>

#include "core/operators/elementwise.h"
#include "core/operators/layers.h"
#include "core/operators/losses.h"
#include "core/operators/optimizer.h"
#include "core/operators/permutation_attention.h"
#include "core/operators/relative_attention.h"
#include "core/operators/sampling.h"

namespace xlformers {

// Append only: the number is part of the plugin contract.
enum class Operator : int32_t {
  fill = 0,
  permute = 1,
  copy_strided = 2,
  random_fill = 3,
  add = 4,
  dropout = 5,
  activation = 6,
  activation_gradient = 7,
  matrix_product = 8,
  pack_matrix = 9,
  column_sum = 10,
  layer_norm = 11,
  layer_norm_gradient = 12,
  embedding = 13,
  embedding_gradient = 14,
  sinusoid_positions = 15,
  relative_attention = 16,
  relative_attention_gradient = 17,
  relative_attention_probabilities = 18,
  memory_update = 19,
  adaptive_softmax_loss = 20,
  adaptive_softmax_loss_gradient = 21,
  adaptive_log_softmax = 22,
  softmax_cross_entropy = 23,
  softmax_cross_entropy_gradient = 24,
  mean_nonzero = 25,
  mean_nonzero_gradient = 26,
  squared_error = 27,
  squared_error_gradient = 28,
  binary_cross_entropy = 29,
  binary_cross_entropy_gradient = 30,
  global_norm = 31,
  adam = 32,
  sample = 33,
  permutation_attention = 34,
  permutation_attention_gradient = 35,
  permutation_attention_probabilities = 36,
  binary_mask = 37,
  masked_fill = 38,
  top_probabilities = 39,
  cast = 40,
  ring_append = 41,
  count = 42,
};

}  // namespace xlformers
