// Dropout of attention probabilities by the counters of core/philox.h: the mask of (batch, head, query, key) is the same forward,
// backward and on every backend.
#pragma once

#include "core/philox.h"
#include "cuda/device.cuh"

namespace xlformers::cuda {

struct AttentionDropout {
  PhiloxStream stream;
  uint32_t threshold;  // 0: nothing is dropped
  double scale;        // of what is kept

  static AttentionDropout of(double probability, uint64_t seed, uint64_t offset) {
    return {{seed, offset}, dropout_threshold(probability), probability < 1 ? 1 / (1 - probability) : 0};
  }

  __host__ __device__ bool active() const { return threshold > 0; }
  // The numbers of the eight keys from `key` / 8 * 8 on; pair = batch * heads + head.
  __device__ PhiloxBlock numbers(int pair, int query, int key) const {
    return stream.block(static_cast<uint32_t>(key) >> 3, static_cast<uint32_t>(query), static_cast<uint32_t>(pair));
  }
  __device__ bool keeps(const PhiloxBlock& block, int key) const {
    const uint32_t word = select_word(block, key >> 1 & 3);
    return (key & 1 ? word >> 16 : word & 0xFFFFu) >= threshold;
  }

  // A register array must not be indexed by a number of run time.
  static __device__ uint32_t select_word(const PhiloxBlock& block, int index) {
    const uint32_t low = index & 1 ? block.word[1] : block.word[0];
    const uint32_t high = index & 1 ? block.word[3] : block.word[2];
    return index & 2 ? high : low;
  }
};

// factors[c] = what dropout multiplies the probability of key `first` + c * step with, c < count. Neighbours share their numbers.
template <typename C, int count>
__device__ void dropout_factors(const AttentionDropout& dropout, int pair, int query, int first, int step, C (&factors)[count]) {
  int block_of = -1;
  PhiloxBlock block = {};
#pragma unroll
  for (int c = 0; c < count; ++c) {
    const int key = first + c * step;
    if (key >> 3 != block_of) {
      block_of = key >> 3;
      block = dropout.numbers(pair, query, key);
    }
    factors[c] = dropout.keeps(block, key) ? static_cast<C>(dropout.scale) : C{0};
  }
}

// The same, and ones where nothing is dropped.
template <typename C, int count>
__device__ void kept_factors(const AttentionDropout& dropout, int pair, int query, int first, int step, C (&factors)[count]) {
  if (dropout.active()) {
    dropout_factors(dropout, pair, query, first, step, factors);
    return;
  }
#pragma unroll
  for (int c = 0; c < count; ++c) factors[c] = 1;
}

}  // namespace xlformers::cuda
