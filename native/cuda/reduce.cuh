// Sums over the threads of a block.
#pragma once

#include "cuda/device.cuh"

namespace xlformers::cuda {

constexpr uint32_t kAllLanes = 0xFFFFFFFFu;

// The sum over a warp, in every lane: pairs 16, 8, ... lanes apart, the same order always.
template <typename T>
__device__ __forceinline__ T warp_sum(T value) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) value += __shfl_xor_sync(kAllLanes, value, distance);
  return value;
}

// The sums of two values over a block of `threads`, in every thread. Sums: float2 or double2.
template <int threads, typename Sums, typename T>
__device__ __forceinline__ Sums block_sums(T a, T b) {
  constexpr int kWarps = threads / 32;
  XL_SHARED(partial, T[kWarps][2]);
  const int lane = static_cast<int>(threadIdx.x) & 31, warp = static_cast<int>(threadIdx.x) >> 5;
  a = warp_sum(a);
  b = warp_sum(b);
  __syncthreads();  // the last use of `partial`
  if (lane == 0) {
    partial[warp][0] = a;
    partial[warp][1] = b;
  }
  __syncthreads();
  Sums sum = {0, 0};
#pragma unroll
  for (int w = 0; w < kWarps; ++w) {
    sum.x += partial[w][0];
    sum.y += partial[w][1];
  }
  return sum;
}

template <int threads>
__device__ __forceinline__ float2 block_sum(float a, float b) {
  return block_sums<threads, float2>(a, b);
}
template <int threads>
__device__ __forceinline__ double2 block_sum(double a, double b) {
  return block_sums<threads, double2>(a, b);
}

}  // namespace xlformers::cuda
