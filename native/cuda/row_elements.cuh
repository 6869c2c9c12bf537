// How a block of 128 threads shares out the elements of a matrix row: turns of 1024 elements, eight per thread.
//
// Packed: a thread's eight follow each other; for rows of a multiple of eight elements at aligned addresses. Not
// packed: a warp has 256 elements that follow each other, lane by lane, so that rows of any length and alignment are
// walked in whole cache lines too.
#pragma once

#include "cuda/dropout.cuh"
#include "cuda/numeric.cuh"
#include "cuda/pack.cuh"
#include "cuda/reduce.cuh"

namespace xlformers::cuda {

constexpr int kRowThreads = 128;
constexpr int kSlots = 8;
constexpr int kTurn = kRowThreads * kSlots;

// groups: of 128 threads that a block has, each with a row.
template <bool packed, int groups = 1>
struct RowElements {
  int64_t columns;

  __device__ static int thread() {
    const int own = static_cast<int>(threadIdx.x);
    return groups == 1 ? own : own % kRowThreads;
  }

  // The column of a slot; columns beyond the row belong to nobody.
  __device__ int64_t column(int64_t turn, int slot) const {
    if constexpr (packed) return turn * kTurn + thread() * kSlots + slot;
    return turn * kTurn + (thread() >> 5) * 256 + slot * 32 + (thread() & 31);
  }
  __device__ bool inside(int64_t turn, int slot) const { return column(turn, slot) < columns; }
  __device__ int64_t turns() const { return (columns + kTurn - 1) / kTurn; }

  // Zero beyond the row.
  template <typename T>
  __device__ void load(const T* row, int64_t turn, Compute<T> (&values)[kSlots]) const {
    if constexpr (packed) {
      Pack<T, kSlots> pack = {};
      if (inside(turn, 0)) pack = load_pack<kSlots>(row + column(turn, 0));
#pragma unroll
      for (int k = 0; k < kSlots; ++k) values[k] = widen(pack.value[k]);
    } else {
#pragma unroll
      for (int k = 0; k < kSlots; ++k) values[k] = inside(turn, k) ? widen(row[column(turn, k)]) : Compute<T>{0};
    }
  }

  template <typename T>
  __device__ void store(T* row, int64_t turn, const Compute<T> (&values)[kSlots]) const {
    if constexpr (packed) {
      Pack<T, kSlots> pack;
#pragma unroll
      for (int k = 0; k < kSlots; ++k) pack.value[k] = narrow<T>(values[k]);
      if (inside(turn, 0)) store_pack<kSlots>(row + column(turn, 0), pack);
    } else {
#pragma unroll
      for (int k = 0; k < kSlots; ++k) {
        if (inside(turn, k)) row[column(turn, k)] = narrow<T>(values[k]);
      }
    }
  }

  // Bit k: dropout keeps slot k of the row that begins at element `start` of its matrix. Called by whole warps.
  __device__ uint32_t kept(const DropoutMask& mask, int64_t start, int64_t turn) const {
    if (mask.threshold == 0) return 0xFFu;
    if constexpr (packed) {
      return kept_of_group(mask, (start + column(turn, 0)) >> 3);
    } else {
      // A lane makes a group of the warp's 256 elements; one group more where they begin within a group.
      const int lane = static_cast<int>(threadIdx.x) & 31;
      const int64_t first = start + column(turn, 0) - lane;
      const int skipped = static_cast<int>(first & 7);
      const uint32_t own = kept_of_group(mask, (first >> 3) + lane);
      const uint32_t last = skipped != 0 ? kept_of_group(mask, (first >> 3) + 32) : 0;
      uint32_t result = 0;
#pragma unroll
      for (int k = 0; k < kSlots; ++k) {
        const int element = skipped + k * 32 + lane;
        const uint32_t shared = __shfl_sync(kAllLanes, own, (element >> 3) & 31);
        const uint32_t group = element >> 3 == 32 ? last : shared;
        result |= (group >> (element & 7) & 1u) << k;
      }
      return result;
    }
  }
};

// Zeroes what was dropped and scales the rest.
template <typename C>
__device__ __forceinline__ void drop(uint32_t kept, C scale, C (&values)[kSlots]) {
#pragma unroll
  for (int k = 0; k < kSlots; ++k) values[k] = kept >> k & 1u ? values[k] * scale : C{0};
}

// Whether rows of this length at these addresses can be packed.
template <typename... T>
bool rows_packed(int64_t columns, const T*... addresses) {
  return columns % kSlots == 0 && aligned_for_packs<kSlots>(addresses...);
}

}  // namespace xlformers::cuda
