// Sums in double over large arrays: each block by itself, then the blocks' sums in a fixed order.
#pragma once

#include "cuda/elementwise.cuh"
#include "cuda/reduce.cuh"

namespace xlformers::cuda {

constexpr int kSumThreads = 256;

// The sum of body(value) over values[0, count), in every thread; body returns two summands. All threads of the block
// call it.
template <typename T, typename Body>
__device__ __forceinline__ double2 block_sum_of(int64_t count, const T* values, const Body& body) {
  double2 sum = {0, 0};
#pragma unroll 4
  for (int64_t i = threadIdx.x; i < count; i += kSumThreads) {
    const double2 summands = body(i, widen(values[i]));
    sum.x += summands.x;
    sum.y += summands.y;
  }
  return block_sum<kSumThreads>(sum.x, sum.y);
}

// The sum of `partial`, in order: by threads, then over the block.
__device__ __forceinline__ double2 sum_of_blocks(int64_t blocks, const double2* partial) {
  double2 sum = {0, 0};
  for (int64_t i = threadIdx.x; i < blocks; i += kSumThreads) {
    sum.x += partial[i].x;
    sum.y += partial[i].y;
  }
  return block_sum<kSumThreads>(sum.x, sum.y);
}

}  // namespace xlformers::cuda
