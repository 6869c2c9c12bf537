// Stable sort of 32-bit keys with their positions by eight bits at a time, the lowest first (Satish, Harris & Garland
// 2009). Each pass reads the keys twice and writes keys and positions once; two launches, some 8 us together on an H100
// for up to 100,000 keys.
#pragma once

#include <utility>

#include "cuda/elementwise.cuh"
#include "cuda/reduce.cuh"

namespace xlformers::cuda {

constexpr int kSortThreads = 256, kSortWarps = kSortThreads / 32;
constexpr int kSortRounds = 8;                            // keys per thread
constexpr int kSortTile = kSortThreads * kSortRounds;     // keys per block; a warp has 256 that follow each other
constexpr int kDigitBits = 8, kDigits = 1 << kDigitBits;  // a thread per digit
static_assert(kDigits == kSortThreads, "a thread per digit");

__device__ __forceinline__ uint32_t digit_of(uint32_t key, int shift) { return key >> shift & (kDigits - 1); }

// counts[tile][digit]
static __global__ void __launch_bounds__(kSortThreads)
    count_digits(const uint32_t* keys, uint32_t count, int shift, uint32_t* counts) {
  XL_SHARED(tally, unsigned[kDigits]);
  const uint32_t thread = threadIdx.x, first = blockIdx.x * kSortTile;
  tally[thread] = 0;
  __syncthreads();
  for (uint32_t i = first + thread; i < first + kSortTile && i < count; i += kSortThreads) {
    atomicAdd(&tally[digit_of(keys[i], shift)], 1u);
  }
  __syncthreads();
  counts[blockIdx.x * kDigits + thread] = tally[thread];
}

// The sum of the values of lower threads of the block.
__device__ __forceinline__ uint32_t sum_before(uint32_t value) {
  XL_SHARED(warp_total, uint32_t[kSortWarps]);
  const int lane = static_cast<int>(threadIdx.x) & 31, warp = static_cast<int>(threadIdx.x) >> 5;
  uint32_t inclusive = value;
#pragma unroll
  for (unsigned distance = 1; distance < 32; distance *= 2) {
    const uint32_t lower = __shfl_up_sync(kAllLanes, inclusive, distance);
    if (static_cast<unsigned>(lane) >= distance) inclusive += lower;
  }
  if (lane == 31) warp_total[warp] = inclusive;
  __syncthreads();
  uint32_t before = inclusive - value;
  for (int w = 0; w < warp; ++w) before += warp_total[w];
  return before;
}

// The lanes of the warp, of those in `active`, whose digit is this lane's.
__device__ __forceinline__ uint32_t lanes_of_digit(uint32_t digit, uint32_t active) {
  uint32_t lanes = active;
#pragma unroll
  for (int bit = 0; bit < kDigitBits; ++bit) {
    const bool set = (digit >> bit & 1u) != 0;
    const uint32_t ballot = __ballot_sync(kAllLanes, set);
    lanes &= set ? ballot : ~ballot;
  }
  return lanes;
}

// positions_in null: the positions 0, 1, ...
static __global__ void __launch_bounds__(kSortThreads)
    scatter_by_digit(const uint32_t* keys_in, const uint32_t* positions_in, uint32_t count, int shift,
                     const uint32_t* counts, uint32_t* keys_out, uint32_t* positions_out) {
  XL_SHARED(target, uint32_t[kSortWarps][kDigits]);  // first how many keys of a warp, then where its next one goes
  const uint32_t thread = threadIdx.x, lane = thread & 31, warp = thread >> 5;
#pragma unroll
  for (int w = 0; w < kSortWarps; ++w) target[w][thread] = 0;
  uint32_t before = 0, total = 0;  // of this thread's digit: in earlier tiles, in all
  for (uint32_t tile = 0; tile < gridDim.x; ++tile) {
    const uint32_t tally = counts[tile * kDigits + thread];
    if (tile < blockIdx.x) before += tally;
    total += tally;
  }
  before += sum_before(total);
  __syncthreads();

  const uint32_t first = blockIdx.x * kSortTile + warp * (kSortTile / kSortWarps) + lane;
  uint32_t keys[kSortRounds], ranks[kSortRounds];
#pragma unroll
  for (int round = 0; round < kSortRounds; ++round) {
    const uint32_t i = first + round * 32;
    keys[round] = i < count ? keys_in[i] : 0;
  }
#pragma unroll
  for (int round = 0; round < kSortRounds; ++round) {
    const bool active = first + round * 32 < count;
    const uint32_t digit = digit_of(keys[round], shift);
    const uint32_t lanes = lanes_of_digit(digit, __ballot_sync(kAllLanes, active));
    const uint32_t earlier = target[warp][digit];
    ranks[round] = earlier + __popc(lanes & ((1u << lane) - 1));
    __syncwarp();
    if (active && (lanes >> lane) == 1u) target[warp][digit] = earlier + __popc(lanes);  // the last lane of its digit
    __syncwarp();
  }
  __syncthreads();
#pragma unroll
  for (int w = 0; w < kSortWarps; ++w) {
    const uint32_t keys_of_warp = target[w][thread];
    target[w][thread] = before;
    before += keys_of_warp;
  }
  __syncthreads();
#pragma unroll
  for (int round = 0; round < kSortRounds; ++round) {
    const uint32_t i = first + round * 32;
    if (i >= count) continue;
    const uint32_t to = target[warp][digit_of(keys[round], shift)] + ranks[round];
    keys_out[to] = keys[round];
    positions_out[to] = positions_in != nullptr ? positions_in[i] : i;
  }
}

// What the workspace holds afterwards, sorted by key, equal keys by position.
struct SortedKeys {
  const uint32_t* keys;
  const uint32_t* positions;
};

// keys: [count], overwritten, none above `largest`.
inline Status sort_keys(const Context& context, const char* name, uint32_t* keys, uint32_t count, uint32_t largest,
                        SortedKeys* sorted) {
  const auto tiles = static_cast<unsigned>(divide_up(count, kSortTile));
  auto* const counts = context.workspace.allocate<uint32_t>(int64_t{tiles} * kDigits);
  uint32_t* keys_out = context.workspace.allocate<uint32_t>(count);
  uint32_t* positions_out = context.workspace.allocate<uint32_t>(count);
  uint32_t* spare = context.workspace.allocate<uint32_t>(count);
  uint32_t* positions = nullptr;
  for (int shift = 0; shift == 0 || (shift < 32 && largest >> shift != 0); shift += kDigitBits) {
    const LaunchShape shape = {name, dim3(tiles), dim3(kSortThreads), 0, context.stream};
    Status status = launch(shape, count_digits, static_cast<const uint32_t*>(keys), count, shift, counts);
    if (!status.ok()) return status;
    status =
        launch(shape, scatter_by_digit, static_cast<const uint32_t*>(keys), static_cast<const uint32_t*>(positions),
               count, shift, static_cast<const uint32_t*>(counts), keys_out, positions_out);
    if (!status.ok()) return status;
    std::swap(keys, keys_out);
    positions = std::exchange(positions_out, positions != nullptr ? positions : spare);
  }
  *sorted = {keys, positions};
  return ok_status();
}

}  // namespace xlformers::cuda
