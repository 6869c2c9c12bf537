// Which keys a query sees by its place, and which queries see a key (core/operators.h, RelativeAttentionParams).
#pragma once

#include <algorithm>

#include "cuda/device.cuh"

namespace xlformers::cuda {

struct AttentionBand {
  int upper, lower, segment;
  int memory, keys;  // lengths: of the memory, and with the current rows

  // Limits that hide nothing may be as large as 64 bits hold: lengths bound them without a change of meaning.
  static AttentionBand of(int64_t upper, int64_t lower, int64_t segment, int64_t query_length, int64_t memory, int64_t keys) {
    const int64_t far = keys + query_length + 1;
    return {static_cast<int>(std::clamp(upper, -far, far)), static_cast<int>(std::clamp(lower, -far, far)),
            static_cast<int>(std::clamp<int64_t>(segment, 1, std::max<int64_t>(query_length, 1))), static_cast<int>(memory),
            static_cast<int>(keys)};
  }

  // Query i sees keys [first_key(i, start), end_key(i)), both non-decreasing in i. `start`: keys before it are hidden from all.
  __device__ int first_key(int query, int start) const { return max(start, query / segment * segment + lower); }
  __device__ int end_key(int query) const { return min(keys, memory + query + upper + 1); }

  // Queries that see any of the keys [key, key_end) are among [first_query(key), end_query(key_end)).
  __device__ int first_query(int key) const { return max(0, key - memory - upper); }
  __device__ int end_query(int key_end) const { return max(0, (key_end - lower + segment - 1) / segment * segment); }
};

}  // namespace xlformers::cuda
