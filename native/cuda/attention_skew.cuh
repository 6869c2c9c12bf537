// Transformer-XL's relative shift between registers.
//
// U = Q R^T of 16 queries has a column for every diagonal; score [r, c] of the tile needs U [r, c + 15 - r]. Columns come in tiles of 8,
// the accumulators of mma m16n8k16: 15 - r is 8 + (7 - g) for row g and 7 - g for row g + 8, so that a shift by whole tiles is a choice of
// register array made by the compiler, and what remains, 7 - g, is the same for the four lanes that share a row.
#pragma once

#include "cuda/attention_fragments.cuh"

namespace xlformers::cuda {

class Skew {
 public:
  __device__ Skew() {
    const int quad = lane_index() % 4;
    const int shift = 7 - fragment_row();
    odd_ = shift % 2 != 0;
    const int first = shift / 2, second = shift / 2 + shift % 2;
    wraps_first_ = quad < first;
    wraps_second_ = quad < second;
    base_ = lane_index() - quad;
    first_ = first, second_ = second;
    quad_ = quad;
  }

  // out = columns [8 y, 8 y + 8) of the scores, from the tiles y, y + 1 and y + 2 of U.
  __device__ __forceinline__ void shift(const float (&u0)[4], const float (&u1)[4], const float (&u2)[4], float (&out)[4]) const {
    const int from_first = base_ | ((quad_ + first_) & 3), from_second = base_ | ((quad_ + second_) & 3);
    out[0] = __shfl_sync(0xFFFFFFFFu, wraps_first_ ? pick(u2[0], u2[1]) : pick(u1[0], u1[1]), from_first);
    out[1] = __shfl_sync(0xFFFFFFFFu, wraps_second_ ? pick(u2[1], u2[0]) : pick(u1[1], u1[0]), from_second);
    out[2] = __shfl_sync(0xFFFFFFFFu, wraps_first_ ? pick(u1[2], u1[3]) : pick(u0[2], u0[3]), from_first);
    out[3] = __shfl_sync(0xFFFFFFFFu, wraps_second_ ? pick(u1[3], u1[2]) : pick(u0[3], u0[2]), from_second);
  }

  // The inverse, for gradients: out = tile n of dU, from the tiles n - 2, n - 1 and n of dS (zeros where there is none).
  __device__ __forceinline__ void unshift(const float (&s0)[4], const float (&s1)[4], const float (&s2)[4], float (&out)[4]) const {
    const int from_first = base_ | ((quad_ - first_) & 3), from_second = base_ | ((quad_ - second_) & 3);
    const bool low_first = quad_ + first_ >= 4, low_second = quad_ + second_ >= 4;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float(&low)[4] = half == 0 ? s0 : s1;
      const float(&high)[4] = half == 0 ? s1 : s2;
      const float a = __shfl_sync(0xFFFFFFFFu, low_first ? low[2 * half] : high[2 * half], from_first);
      const float b = __shfl_sync(0xFFFFFFFFu, low_second ? low[2 * half + 1] : high[2 * half + 1], from_second);
      out[2 * half] = odd_ ? b : a;
      out[2 * half + 1] = odd_ ? a : b;
    }
  }

 private:
  // Which of two neighbours; an index of run time would send the array to local memory.
  __device__ __forceinline__ float pick(float even, float odd) const { return odd_ ? odd : even; }

  int quad_, base_, first_, second_;
  bool odd_, wraps_first_, wraps_second_;
};

}  // namespace xlformers::cuda
