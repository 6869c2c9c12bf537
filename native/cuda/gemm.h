// The steps of matrix_product, one by one for tests.
#pragma once

#include "core/operators.h"
#include "cuda/gemm_plan.h"
#include "cuda/kernel.h"

namespace xlformers::cuda {

// By the own kernels. The plan must be one that the shape admits (takes_few_rows).
Status multiply_by_plan(const Context& context, const MatrixProductParams& params, const GemmPlan& plan);

// c (+)= activation(product) + residual, where `product` [rows, columns] holds the sums with the bias, as
// pre_activation does. It may be c itself when nothing accumulates.
Status finish_stored_product(const Context& context, const MatrixProductParams& params, const void* product,
                             int64_t stride);

}  // namespace xlformers::cuda
