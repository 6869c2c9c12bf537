// Where kernels say what is wrong with the data.
#pragma once

#include "core/operators.h"
#include "cuda/data_error.h"
#include "cuda/device.cuh"

namespace xlformers::cuda {

// Keeps the first error only; which one is first among several is chance.
__device__ inline void report(DataError* error, Operator op, DataErrorKind kind, int64_t index, int64_t value, int64_t low, int64_t high) {
  if (atomicCAS(&error->claimed, 0u, 1u) != 0) return;
  error->op = static_cast<int32_t>(op);
  error->kind = kind;
  error->index = index;
  error->value = value;
  error->low = low;
  error->high = high;
}

}  // namespace xlformers::cuda
