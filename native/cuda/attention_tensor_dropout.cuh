// Dropout of the probabilities that a warp holds as accumulators.
#pragma once

#include "cuda/attention_dropout.cuh"
#include "cuda/attention_fragments.cuh"

namespace xlformers::cuda {

// Bits 2n and 2n + 1 say whether dropout keeps the lane's two columns of tile n of [key, key + 32) for this row. Each of the four lanes
// of the row makes the numbers of 8 keys and hands three quarters of them to the others. All lanes of the warp take part.
__device__ __forceinline__ uint32_t kept_bits(const AttentionDropout& dropout, int pair, int query, int key) {
  const int quad = lane_index() % 4;
  const PhiloxBlock block = dropout.numbers(pair, query, key + 8 * quad);
  uint32_t bits = 0;
#pragma unroll
  for (int step = 0; step < 4; ++step) {
    const int other = quad ^ step;
    uint32_t word = AttentionDropout::select_word(block, other);
    if (step > 0) word = __shfl_xor_sync(0xFFFFFFFFu, word, step);
    const uint32_t two = ((word & 0xFFFFu) >= dropout.threshold ? 1u : 0u) | ((word >> 16) >= dropout.threshold ? 2u : 0u);
    bits |= two << (2 * other);
  }
  return bits;
}

}  // namespace xlformers::cuda
