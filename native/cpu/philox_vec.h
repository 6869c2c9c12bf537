// Philox blocks by the vector, and the dropout masks made of them. The bits are those of core/philox.h.
//
// Every 64-bit lane holds one 32-bit counter word of one block: the widening multiplication that Philox is made of
// reads exactly the low half of such a lane, so the upper halves may hold anything until the end.
#pragma once

#include "core/philox.h"
#include "cpu/vec.h"

#if defined(__SSE2__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

XL_KERNELS_BEGIN

constexpr int kPhiloxBlocks = kVectorBytes / 8;    // blocks made at once
constexpr int kPhiloxLanes = 8 * kPhiloxBlocks;    // 16-bit numbers in them
constexpr int kDropoutPadding = kPhiloxLanes + 8;  // what a lane buffer needs beyond the elements it serves
constexpr int64_t kDropoutChunk = 512;             // elements whose lanes element-wise kernels keep on the stack

// The product of the low halves of the 64-bit lanes.
static inline Vec<uint64_t> multiply_low_halves(Vec<uint64_t> a, Vec<uint64_t> b) {
#if defined(__AVX512F__)
  // The masked form: GCC 12 warns of an uninitialised operand inside the plain one.
  return (Vec<uint64_t>)_mm512_maskz_mul_epu32(0xFF, (__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
  return (Vec<uint64_t>)_mm256_mul_epu32((__m256i)a, (__m256i)b);
#elif defined(__SSE2__)
  return (Vec<uint64_t>)_mm_mul_epu32((__m128i)a, (__m128i)b);
#elif defined(__ARM_NEON)
  return (Vec<uint64_t>)vmull_u32(vmovn_u64((uint64x2_t)a), vmovn_u64((uint64x2_t)b));
#else
  return (a & 0xFFFFFFFFu) * (b & 0xFFFFFFFFu);
#endif
}

// out[0 .. kPhiloxLanes) = the 16-bit lanes of stream.block(low(n), high(n), c) for the lanes n of `index`.
static inline void philox_lanes16(const PhiloxStream& stream, Vec<uint64_t> index, uint32_t c, uint16_t* out) {
  typedef Vec<uint64_t> U64;
  U64 word0 = index;
  U64 word1 = index >> 32;
  U64 word2 = broadcast<uint64_t>(c);
  U64 word3 = broadcast<uint64_t>(static_cast<uint32_t>(stream.offset));
  uint32_t key0 = static_cast<uint32_t>(stream.seed);
  uint32_t key1 = static_cast<uint32_t>(stream.seed >> 32) ^ static_cast<uint32_t>(stream.offset >> 32);
  const U64 multiplier0 = broadcast<uint64_t>(0xD2511F53u);
  const U64 multiplier1 = broadcast<uint64_t>(0xCD9E8D57u);
  for (int round = 0; round < 10; ++round) {
    const U64 product0 = multiply_low_halves(word0, multiplier0);
    const U64 product1 = multiply_low_halves(word2, multiplier1);
    word0 = (product1 >> 32) ^ word1 ^ broadcast<uint64_t>(key0);
    word1 = product1;
    word2 = (product0 >> 32) ^ word3 ^ broadcast<uint64_t>(key1);
    word3 = product0;
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  const U64 front = (word0 & 0xFFFFFFFFu) | (word1 << 32);  // lanes 0..3 of every block
  const U64 back = (word2 & 0xFFFFFFFFu) | (word3 << 32);   // lanes 4..7
#if defined(__AVX512F__)
  const U64 low = __builtin_shufflevector(front, back, 0, 8, 1, 9, 2, 10, 3, 11);
  const U64 high = __builtin_shufflevector(front, back, 4, 12, 5, 13, 6, 14, 7, 15);
#elif defined(__AVX2__)
  const U64 low = __builtin_shufflevector(front, back, 0, 4, 1, 5);
  const U64 high = __builtin_shufflevector(front, back, 2, 6, 3, 7);
#else
  const U64 low = __builtin_shufflevector(front, back, 0, 2);
  const U64 high = __builtin_shufflevector(front, back, 1, 3);
#endif
  store(reinterpret_cast<uint64_t*>(out), low);
  store(reinterpret_cast<uint64_t*>(out + kPhiloxLanes / 2), high);
}

// For n = first, first + 1, ...
static inline void philox_lanes16(const PhiloxStream& stream, uint64_t first, uint32_t c, uint16_t* out) {
  Vec<uint64_t> index;
  for (int i = 0; i < kPhiloxBlocks; ++i) index[i] = first + static_cast<uint64_t>(i);
  philox_lanes16(stream, index, c, out);
}

// The numbers of elements [index, index + count) of an element-wise dropout: written to `buffer`, which has room for
// count + kDropoutPadding, and returned from the first element on (it need not start a block).
static inline const uint16_t* dropout_lanes(const PhiloxStream& stream, int64_t index, int64_t count,
                                            uint16_t* buffer) {
  const int64_t skipped = index & 7;
  for (int64_t filled = 0; filled < skipped + count; filled += kPhiloxLanes) {
    philox_lanes16(stream, static_cast<uint64_t>((index + filled) >> 3), 0, buffer + filled);
  }
  return buffer + skipped;
}

// x * scale where the element is kept, 0 elsewhere. Reads kLanes<T> numbers.
template <typename T>
static inline Vec<T> dropped(Vec<T> x, const uint16_t* lanes, uint32_t threshold, T scale) {
  typedef uint16_t Narrow __attribute__((vector_size(kLanes<T> * 2)));
  Narrow narrow;
  __builtin_memcpy(&narrow, lanes, sizeof narrow);
  // Signed numbers of the operand's width: the comparison then yields that operand's selection mask.
  const auto keep =
      __builtin_convertvector(narrow, decltype(x > x)) >= static_cast<decltype((x > x)[0] + 0)>(threshold);
  return keep ? x * scale : Vec<T>{};
}

// What dropout needs per call. threshold 0: nothing is dropped, and no random number is needed.
struct DropoutMask {
  PhiloxStream stream;
  uint32_t threshold;
  double scale;
};

static inline DropoutMask dropout_mask(double probability, uint64_t seed, uint64_t offset) {
  return {{seed, offset}, dropout_threshold(probability), probability < 1 ? 1 / (1 - probability) : 0};
}

XL_KERNELS_END
