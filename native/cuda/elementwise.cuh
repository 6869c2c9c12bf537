// Loops over elements that do not depend on each other. All are bound by memory: their time is the bytes of what they
// read and write over 3.0 TB/s on an H100 (two bf16 operands and a result of 16384 x 1024: 100 MB, 34 us).
#pragma once

#include <algorithm>

#include "cuda/kernel.h"
#include "cuda/numeric.cuh"
#include "cuda/pack.cuh"

namespace xlformers::cuda {

constexpr int kElementThreads = 256;
constexpr int kElementBlocks =
    4;  // on a multiprocessor at least: allows 64 registers, without which some fp64 instances spill

inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Blocks for `threads` threads that each take one turn. A few blocks per multiprocessor hide latency; more would only
// queue.
inline dim3 element_blocks(const Context& context, int64_t threads) {
  const int64_t limit = int64_t{32} * context.device.multiprocessors;
  return dim3(static_cast<unsigned>(std::min(divide_up(threads, kElementThreads), limit)));
}

// body(i) for 0 <= i < count. `Body` is a struct with a __device__ operator().
template <typename Body>
__global__ void __launch_bounds__(kElementThreads) for_each_element(int64_t count, Body body) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * kElementThreads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kElementThreads + threadIdx.x; i < count; i += step) body(i);
}

// `name`: of the operator, for reports.
template <typename Body>
Status for_each(const Context& context, const char* name, int64_t count, const Body& body) {
  if (count <= 0) return ok_status();
  return launch({name, element_blocks(context, count), dim3(kElementThreads), 0, context.stream},
                for_each_element<Body>, count, body);
}

template <int width, typename Body, typename Out, typename... In>
__device__ __forceinline__ void transform_pack(const Body& body, Out* out, const Pack<In, width>&... in) {
  Pack<Out, width> result;
#pragma unroll
  for (int k = 0; k < width; ++k) result.value[k] = body(in.value[k]...);
  store_pack<width>(out, result);
}

template <int width, typename Body, typename Out, typename... In>
__global__ void __launch_bounds__(kElementThreads, kElementBlocks)
    transform_elements(int64_t count, Body body, Out* out, const In*... in) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * kElementThreads * width;
  for (int64_t i = (static_cast<int64_t>(blockIdx.x) * kElementThreads + threadIdx.x) * width; i < count; i += step) {
    if (i + width <= count) {
      transform_pack<width>(body, out + i, load_pack<width>(in + i)...);
    } else {
      for (int64_t j = i; j < count; ++j) out[j] = body(in[j]...);
    }
  }
}

// out[i] = body(in[i]...) for 0 <= i < count, in packs where the addresses allow it. Outputs may alias inputs.
template <typename Body, typename Out, typename... In>
Status transform(const Context& context, const char* name, int64_t count, const Body& body, Out* out, const In*... in) {
  if (count <= 0) return ok_status();
  constexpr int kWidth = pack_elements<Out, In...>();
  const bool aligned = aligned_for_packs<kWidth>(out, in...);
  void (*const kernel)(int64_t, Body, Out*, const In*...) =
      aligned ? transform_elements<kWidth, Body, Out, In...> : transform_elements<1, Body, Out, In...>;
  const dim3 blocks = element_blocks(context, divide_up(count, aligned ? kWidth : 1));
  return launch({name, blocks, dim3(kElementThreads), 0, context.stream}, kernel, count, body, out, in...);
}

}  // namespace xlformers::cuda
