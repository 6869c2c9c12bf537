// Rings for kernels that take rows in order.
#pragma once

#include "cuda/kernel.h"

namespace xlformers::cuda {

// Makes *memory plain rows, copied to workspace memory in their order, when it is a ring. `width`: elements of a row.
Status unroll_ring(const Context& context, Operator op, DType dtype, int64_t batch, int64_t width, AttentionRows* memory);

}  // namespace xlformers::cuda
