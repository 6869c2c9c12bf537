// Dropout of attention probabilities, by the counters of core/philox.h: the mask of (batch, head, query, key) is the same forward,
// backward and on every backend.
#pragma once

#include "cpu/attention_tile.h"
#include "cpu/philox_vec.h"

XL_KERNELS_BEGIN

// out[j] = keep ? p[j] / (1 - probability) : 0 for keys [begin, end) of the block that starts at key `block_start`, at most kKeyBlock;
// pair = batch * heads + head.
template <typename T>
static inline void drop(const DropoutMask& mask, int64_t pair, int64_t query, int64_t block_start, int64_t begin, int64_t end,
                        const T* p, T* out) {
  alignas(64) uint16_t lanes[kKeyBlock + kDropoutPadding];
  const int64_t first = (block_start + begin) & ~int64_t{7};
  const uint64_t high = static_cast<uint64_t>(static_cast<uint32_t>(query)) << 32;
  const auto c = static_cast<uint32_t>(pair);
  for (int64_t filled = 0; first + filled < block_start + end; filled += kPhiloxLanes) {
    philox_lanes16(mask.stream, high | static_cast<uint32_t>((first + filled) >> 3), c, lanes + filled);
  }
  const int64_t shift = block_start - first;
  const T scale = static_cast<T>(mask.scale);
  int64_t j = begin;
  for (; j + kLanes<T> <= end; j += kLanes<T>) store(out + j, dropped<T>(load(p + j), lanes + (j + shift), mask.threshold, scale));
  for (; j < end; ++j) out[j] = lanes[j + shift] >= mask.threshold ? p[j] * scale : T{0};
}

XL_KERNELS_END
