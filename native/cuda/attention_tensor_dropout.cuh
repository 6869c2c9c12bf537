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

// The same for any 64 keys at most: bit c says whether dropout keeps key `first` + c, 0 <= c < count <= 64; `first` may be anything.
template <int count>
__device__ __forceinline__ uint64_t kept_mask(const AttentionDropout& dropout, int pair, int query, int first) {
  const int quad = lane_index() % 4;
  const int start = first & ~7;
  uint32_t words[3] = {};
#pragma unroll
  for (int each = 0; each < (count / 8 + 4) / 4; ++each) {
    const int byte = 4 * each + quad;  // of the aligned span, one more than count / 8
    const PhiloxBlock block = dropout.numbers(pair, query, start + 8 * byte);
    uint32_t bits = 0;
#pragma unroll
    for (int lane = 0; lane < 8; ++lane) bits |= philox_lane16(block, lane) >= dropout.threshold ? 1u << lane : 0u;
    words[each] = bits << (8 * quad);
  }
#pragma unroll
  for (uint32_t& word : words) {
    word |= __shfl_xor_sync(0xFFFFFFFFu, word, 1);
    word |= __shfl_xor_sync(0xFFFFFFFFu, word, 2);
  }
  const int shift = first - start;
  const uint64_t low = words[0] | static_cast<uint64_t>(words[1]) << 32;
  return shift == 0 ? low : low >> shift | static_cast<uint64_t>(words[2]) << (64 - shift);
}

}  // namespace xlformers::cuda
