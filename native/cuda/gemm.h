// The steps of matrix_product, one by one for tests.
#pragma once

#include "core/operators.h"
#include "cuda/gemm_plan.h"
#include "cuda/kernel.h"

namespace xlformers::cuda {

// By the own kernels. The plan must be one that the shape admits (takes_few_rows).
Status multiply_by_plan(const Context& context, const MatrixProductParams& params, const GemmPlan& plan);

// layer_norm and matrix_product after it, where the one takes_norm of the other.
Status multiply_normed(const Context& context, const LayerNormParams& norm, const MatrixProductParams& params);

// As matrix_product, of rows of `a` that are not all there: those of c, or those summed over where transpose_a. What is
// not there is not read, and the rows of c that it would give are left as they are or hold anything. By the own
// kernels; blocks without rows end at once.
Status multiply_rows_there(const Context& context, const MatrixProductParams& params, const DeviceCount& there);

// c (+)= dropout(activation(product)) + residual, where `product` [rows, columns] holds the sums with the bias, as
// pre_activation does. It may be c itself when nothing accumulates.
Status finish_stored_product(const Context& context, const MatrixProductParams& params, const void* product,
                             int64_t stride);

}  // namespace xlformers::cuda
