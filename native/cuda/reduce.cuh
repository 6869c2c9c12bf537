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

// The sums of two values over a block of `threads`, in every thread. Sums: float2 or double2. With more than one group:
// over each of the groups of so many threads that a block has, which do not wait for each other.
template <int threads, int groups, typename Sums, typename T>
__device__ __forceinline__ Sums block_sums(T a, T b) {
  constexpr int kWarps = threads / 32;
  XL_SHARED(partial, T[groups * kWarps][2]);
  const int lane = static_cast<int>(threadIdx.x) & 31, warp = static_cast<int>(threadIdx.x) >> 5;
  const int group = groups == 1 ? 0 : warp / kWarps;
  const auto wait = [&] {
    if constexpr (groups == 1) {
      __syncthreads();
    } else {
      barrier_sync(1 + group, threads);
    }
  };
  a = warp_sum(a);
  b = warp_sum(b);
  wait();  // the last use of `partial`
  if (lane == 0) {
    partial[warp][0] = a;
    partial[warp][1] = b;
  }
  wait();
  Sums sum = {0, 0};
#pragma unroll
  for (int w = 0; w < kWarps; ++w) {
    sum.x += partial[group * kWarps + w][0];
    sum.y += partial[group * kWarps + w][1];
  }
  return sum;
}

template <int threads, int groups = 1>
__device__ __forceinline__ float2 block_sum(float a, float b) {
  return block_sums<threads, groups, float2>(a, b);
}
template <int threads, int groups = 1>
__device__ __forceinline__ double2 block_sum(double a, double b) {
  return block_sums<threads, groups, double2>(a, b);
}

}  // namespace xlformers::cuda
