// Loops over elements that do not depend on each other.
#pragma once

#include <algorithm>

#include "cuda/kernel.h"
#include "cuda/numeric.cuh"

namespace xlformers::cuda {

constexpr int kElementThreads = 256;

// body(i) for 0 <= i < count. `Body` is a struct with a __device__ operator().
template <typename Body>
__global__ void __launch_bounds__(kElementThreads) for_each_element(int64_t count, Body body) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step) body(i);
}

// `name`: of the operator, for reports.
template <typename Body>
Status for_each(const Context& context, const char* name, int64_t count, const Body& body) {
  if (count == 0) return ok_status();
  const int64_t blocks = (count + kElementThreads - 1) / kElementThreads;
  // A few blocks per multiprocessor hide latency; more would only queue.
  const int64_t limit = int64_t{32} * context.device.multiprocessors;
  const LaunchShape shape = {name, dim3(static_cast<unsigned>(std::min(blocks, limit))), dim3(kElementThreads), 0, context.stream};
  return launch(shape, for_each_element<Body>, count, body);
}

}  // namespace xlformers::cuda
