// Work that must wait for all blocks of a group, done by the one that comes last: a kernel less, and a launch.
#pragma once

#include "cuda/device.cuh"

namespace xlformers::cuda {

// Whether this block is the last of the group's `count`, told to all of its threads: what the others wrote before is
// then there to be read. The counter begins at zero and is left so. Which block comes last is chance: what it does must
// not depend on it.
__device__ __forceinline__ bool arrives_last(uint32_t* counter, uint32_t count) {
  XL_SHARED(last, bool);
  __syncthreads();
  if (threadIdx.x == 0) {
    __threadfence();  // what the block wrote, before its arrival
    last = atomicAdd(counter, 1u) + 1 == count;
    if (last) atomicExch(counter, 0u);
    __threadfence();  // the others' arrivals, before what they wrote
  }
  __syncthreads();
  return last;
}

}  // namespace xlformers::cuda
