// All kernels of one instruction set. The list is the order of Operator; kernel_table.cc proves that it is complete.
#pragma once

#include "cpu/isa.h"
#include "cpu/kernel.h"

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
  X(binary_mask) X(masked_fill) X(top_probabilities)
// clang-format on

XL_KERNELS_BEGIN

#define XL_DECLARE_KERNEL(name) Status name(Context& context, const void* params);
XL_FOR_EACH_OPERATOR(XL_DECLARE_KERNEL)
#undef XL_DECLARE_KERNEL

int64_t packed_matrix_elements(DType dtype, int64_t columns, int64_t inner);

const KernelTable& kernel_table();

XL_KERNELS_END
