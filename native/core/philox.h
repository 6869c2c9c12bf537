// Philox4x32-10, the counter-based generator of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
// Every backend draws from it with the counters below, so dropout masks and initial weights agree bit for bit everywhere,
// and resuming needs nothing but (seed, offset). The code is free of library calls: it also compiles for CUDA devices.
// Functions are static for the reason given in status.h.
//
// Counter words: {index low, index high or row, lane group, offset low}; key words: {seed low, seed high ^ offset high}.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define XL_HOST_DEVICE __host__ __device__
#else
#define XL_HOST_DEVICE
#endif

namespace xlformers {

struct PhiloxBlock {
  uint32_t word[4];
};

XL_HOST_DEVICE static inline PhiloxBlock philox4x32(PhiloxBlock counter, uint32_t key0, uint32_t key1) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53u} * counter.word[0];
    const uint64_t product1 = uint64_t{0xCD9E8D57u} * counter.word[2];
    counter = {{static_cast<uint32_t>(product1 >> 32) ^ counter.word[1] ^ key0, static_cast<uint32_t>(product1),
                static_cast<uint32_t>(product0 >> 32) ^ counter.word[3] ^ key1, static_cast<uint32_t>(product0)}};
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return counter;
}

// The stream of random numbers that one operator call owns: `offset` is taken from the generator's counter at enqueue time.
struct PhiloxStream {
  uint64_t seed;
  uint64_t offset;

  XL_HOST_DEVICE PhiloxBlock block(uint32_t a, uint32_t b, uint32_t c) const {
    return philox4x32({{a, b, c, static_cast<uint32_t>(offset)}}, static_cast<uint32_t>(seed),
                      static_cast<uint32_t>(seed >> 32) ^ static_cast<uint32_t>(offset >> 32));
  }
};

// A stream whose place is kept in memory, in four words: seed and offset, the lower word of each first.
XL_HOST_DEVICE static inline PhiloxStream stored_stream(const uint32_t* words) {
  return {uint64_t{words[1]} << 32 | words[0], uint64_t{words[3]} << 32 | words[2]};
}

XL_HOST_DEVICE static inline void store_next_offset(uint64_t offset, uint32_t* words) {
  words[2] = static_cast<uint32_t>(offset + 1);
  words[3] = static_cast<uint32_t>((offset + 1) >> 32);
}

// Dropout keeps an element when its 16-bit lane is >= threshold: the probability is exact to 2^-17.
XL_HOST_DEVICE static inline uint32_t dropout_threshold(double probability) {
  return static_cast<uint32_t>(probability * 65536.0 + 0.5);
}

// Lane 0..7 of a block as 16-bit numbers, low half of word 0 first.
XL_HOST_DEVICE static inline uint32_t philox_lane16(const PhiloxBlock& block, int lane) {
  return (block.word[lane >> 1] >> ((lane & 1) * 16)) & 0xFFFFu;
}

// Element-wise dropout, element `index`: block(index >> 3 low, index >> 35, 0), lane index & 7.
// Attention dropout, probability (batch, head, query, key): block(key >> 3, query, batch * heads + head), lane key & 7.

}  // namespace xlformers
