// The operators by name, in the order of Operator: backends build their tables from this one list.
#pragma once

#include "core/operators.h"

// clang-format off
#define XL_FOR_EACH_OPERATOR(X) \
  X(fill) X(permute) X(copy_strided) X(random_fill) X(add) X(dropout) X(activation) X(activation_gradient) \
  X(matrix_product) X(pack_matrix) X(column_sum) X(layer_norm) X(layer_norm_gradient) X(embedding) X(embedding_gradient) \
  X(sinusoid_positions) X(relative_attention) X(relative_attention_gradient) X(relative_attention_probabilities) \
  X(memory_update) X(adaptive_softmax_loss) X(adaptive_softmax_loss_gradient) X(adaptive_log_softmax) \
  X(softmax_cross_entropy) X(softmax_cross_entropy_gradient) X(mean_nonzero) X(mean_nonzero_gradient) \
  X(squared_error) X(squared_error_gradient) X(binary_cross_entropy) X(binary_cross_entropy_gradient) \
  X(global_norm) X(adam) X(sample) \
  X(permutation_attention) X(permutation_attention_gradient) X(permutation_attention_probabilities) \
  X(binary_mask) X(masked_fill) X(top_probabilities) X(cast) X(ring_append)
// clang-format on

namespace xlformers {

constexpr int kOperatorCount = static_cast<int>(Operator::count);

#define XL_COUNT_ENTRY(name) +1
static_assert(0 XL_FOR_EACH_OPERATOR(XL_COUNT_ENTRY) == kOperatorCount, "an operator is missing in the list");
#undef XL_COUNT_ENTRY

#define XL_NUMBER_ENTRY(name) static_cast<int>(Operator::name),
constexpr int kListedNumbers[] = {XL_FOR_EACH_OPERATOR(XL_NUMBER_ENTRY)};
#undef XL_NUMBER_ENTRY

constexpr bool listed_in_order() {
  for (int i = 0; i < kOperatorCount; ++i) {
    if (kListedNumbers[i] != i) return false;
  }
  return true;
}
static_assert(listed_in_order(), "the list names the operators in another order than Operator");

#define XL_NAME_ENTRY(name) #name,
constexpr const char* kOperatorNames[] = {XL_FOR_EACH_OPERATOR(XL_NAME_ENTRY)};
#undef XL_NAME_ENTRY

}  // namespace xlformers
