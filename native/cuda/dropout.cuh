// Dropout masks, made again wherever they are needed: a Philox block serves eight elements.
#pragma once

#include "core/philox.h"
#include "cuda/device.cuh"

namespace xlformers::cuda {

// What dropout needs per call. threshold 0: nothing is dropped, and no random number is needed.
struct DropoutMask {
  PhiloxStream stream;
  uint32_t threshold;
  double scale;
};

inline DropoutMask dropout_mask(double probability, uint64_t seed, uint64_t offset) {
  return {{seed, offset}, dropout_threshold(probability), probability < 1 ? 1 / (1 - probability) : 0};
}

// Bit k: element 8 * group + k is kept.
__device__ __forceinline__ uint32_t kept_of_group(const DropoutMask& mask, int64_t group) {
  const PhiloxBlock block = mask.stream.block(static_cast<uint32_t>(group), static_cast<uint32_t>(group >> 32), 0);
  uint32_t kept = 0;
#pragma unroll
  for (int k = 0; k < 8; ++k) kept |= static_cast<uint32_t>(philox_lane16(block, k) >= mask.threshold) << k;
  return kept;
}

}  // namespace xlformers::cuda
