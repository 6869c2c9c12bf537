// What a CUDA operator is: a function of a parameter block (core/operators.h) and this context, which enqueues kernels on the
// context's stream and returns at once.
//
// Determinism: partial results are combined in a fixed order, never by atomics on floating numbers, unless the operator says so.
#pragma once

#include <cstdint>

#include "core/operator_list.h"
#include "core/status.h"
#include "cuda/data_error.h"
#include "cuda/runtime.h"
#include "cuda/workspace.h"

namespace xlformers::cuda {

// Counters on the device by which blocks find out who comes last (arrivals.cuh). Every kernel finds and leaves them zero, so that
// they need no clearing between kernels, nor in a graph that is launched again and again.
struct Arrivals {
  uint32_t* counters;
  int64_t count;
};

constexpr int64_t kArrivals = int64_t{1} << 14;  // that a stream has

struct Context {
  void* stream;
  Workspace& workspace;  // device memory, emptied after every operator; the stream's order makes its reuse safe
  const DeviceProperties& device;
  DataError* data_error;  // on the device: where kernels say what is wrong with ids, labels or positions
  Arrivals arrivals;
};

using Kernel = Status (*)(const Context& context, const void* params);

#define XL_DECLARE_KERNEL(name) Status name(const Context& context, const void* params);
XL_FOR_EACH_OPERATOR(XL_DECLARE_KERNEL)
#undef XL_DECLARE_KERNEL

}  // namespace xlformers::cuda
