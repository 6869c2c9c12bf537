// dR beside dQ, without atomics and in a fixed order, whatever places the rows of a stream stand at.
#pragma once

#include "cuda/permutation_tensor.cuh"
#include "cuda/permutation_tensor_gradient.h"

namespace xlformers::cuda {

// Sums over a block's rows of dU^T Q, and of dU, by distance, in the block's own part of memory, where a block goes on
// with one tile of rows after another. dS of a tile is kept in shared memory for a window of keys; then each warp takes
// every fourth 16 of the distances that the window has, picks their dU from it, multiplies it by the tile's rows, and
// adds the sums to those in memory.
//
// FLOPs: 2 * head_dim * (1 + 16 / kWindow) a score of consecutive rows; of others, 16 distances for every 16 rows that
// meet one of them. Bytes: 8 * head_dim * (kRows + kWindow) a tile of consecutive rows and window, 12 a score at head
// size 64, nearly all in the L2 cache.
template <typename T, int D, bool kConsecutive>
class PositionSums {
  using Tile = PermutationTensorTile<D>;
  static constexpr int kPad = 16;  // zeros on both sides, for what a tile of distances meets beyond the window

 public:
  static constexpr int kWindow = 128;  // keys
  // Rows lie 4 banks beyond a multiple of 32: neither the pairs that are put nor the values that are picked meet a
  // conflict.
  static constexpr int kStride = kWindow + 2 * kPad + 8;
  static constexpr size_t kElements = Tile::kRows * kStride;

  // score_gradients: kElements in shared memory; queries: rows of the tile [kRows][Tile::kStride], there too.
  __device__ PositionSums(const PositionPartials& to, int chunk, int batch, const RelativeProblem<T>& operands,
                          int head, T* score_gradients, const T* queries)
      : score_gradients_(score_gradients), queries_(queries), position_rows_(operands.position_rows) {
    const int64_t part = static_cast<int64_t>(batch) * to.chunks + chunk;
    const int64_t first = (part * operands.heads + head) * position_rows_;
    sums_ = to.sums + first * D;
    totals_ = to.totals + first;
  }

  // A barrier is needed behind it.
  __device__ void clear() const {
    const int thread = static_cast<int>(threadIdx.x);
    for (int i = thread; i < position_rows_; i += Tile::kThreads) totals_[i] = 0;
    const int64_t pieces = static_cast<int64_t>(position_rows_) * (D / 4);
    for (int64_t i = thread; i < pieces; i += Tile::kThreads)
      reinterpret_cast<float4*>(sums_)[i] = make_float4(0, 0, 0, 0);
  }

  // Before a window: what the warp's rows have in it is zero. A barrier is needed between add() and this.
  __device__ void begin_window(int own) const {
    constexpr int kPieces = 16 * kStride / 8;
    uint4* const rows = reinterpret_cast<uint4*>(score_gradients_ + own * kStride);
    for (int i = lane_index(); i < kPieces; i += 32) rows[i] = make_uint4(0, 0, 0, 0);
    __syncwarp();
  }

  // dS of two neighbouring keys, counted from the window's first.
  __device__ void put(int row, int key, float first, float second) const {
    *reinterpret_cast<uint32_t*>(score_gradients_ + row * kStride + kPad + key) = pack<T>(first, second);
  }

  // Adds a window, whose first key is `key0`, of a tile whose rows stand between two positions. Barriers are needed
  // around it.
  template <typename Block>
  __device__ void add(const Block& block, int key0, int first_position, int last_position) const {
    const uint32_t ones = pack<T>(1.0f, 1.0f);
    const int first = block.distance(first_position, key0 + kWindow - 1), last = block.distance(last_position, key0);
#pragma unroll 1
    for (int tile = warp_index(); first + 16 * tile <= last; tile += Tile::kWarps) {
      const int nearest = first + 16 * tile;
      const auto row_of = [&](int half) { return block.position_row(nearest + 8 * half + fragment_row()); };
      const auto is_row = [&](int row) { return row >= 0 && row < position_rows_; };
      float sums[D / 8][4], totals[4] = {};
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const bool present = is_row(row_of(half));
#pragma unroll
        for (int n = 0; n < D / 8; ++n) {
          const float2 before = present ? *pair_of(row_of(half), n) : make_float2(0, 0);
          sums[n][2 * half] = before.x, sums[n][2 * half + 1] = before.y;
        }
      }
#pragma unroll
      for (int k = 0; k < Tile::kRows / 16; ++k) {
        uint32_t a[4];
        if (kConsecutive ? !pick_consecutive(tile, k, a) : !pick_anywhere(block, key0, nearest, k, a)) continue;
        add_columns<D>(a, queries_ + 16 * k * Tile::kStride, sums);
        mma_m16n8k16<T>(totals, a, ones, ones);
      }
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = row_of(half);
        if (!is_row(row)) continue;
#pragma unroll
        for (int n = 0; n < D / 8; ++n) *pair_of(row, n) = make_float2(sums[n][2 * half], sums[n][2 * half + 1]);
        if (fragment_column() == 0) totals_[row] += totals[2 * half];
      }
    }
  }

 private:
  __device__ float2* pair_of(int row, int n) const {
    return reinterpret_cast<float2*>(sums_ + static_cast<int64_t>(row) * D + 8 * n + fragment_column());
  }
  __device__ uint32_t word(const T* low, const T* high) const {
    return *reinterpret_cast<const uint16_t*>(low) | static_cast<uint32_t>(*reinterpret_cast<const uint16_t*>(high))
                                                         << 16;
  }

  // Fragment A [16 distances, 16 rows from 16 k on] of dU; false where the window has none of it. Consecutive rows: row
  // i and distance d of tile n meet at key kWindow - 1 + i - 16 n - d.
  __device__ __forceinline__ bool pick_consecutive(int tile, int k, uint32_t (&a)[4]) const {
    if (k > tile || tile - k > kWindow / 16) return false;
    const int row = 16 * k + fragment_column();
    const T* const from = score_gradients_ + row * kStride + kPad + kWindow - 1 + row - 16 * tile - fragment_row();
#pragma unroll
    for (int x = 0; x < 4; ++x) {
      const T* const low = from + x / 2 * 8 * (kStride + 1) - x % 2 * 8;
      a[x] = word(low, low + kStride + 1);
    }
    return true;
  }
  template <typename Block>
  __device__ __forceinline__ bool pick_anywhere(const Block& block, int key0, int nearest, int k,
                                                uint32_t (&a)[4]) const {
    bool any = false;
    const auto place = [&](int row, int distance) {
      const int key = block.distance(block.rows.position[row], key0) - distance;
      any = any || (key >= 0 && key < kWindow);
      return score_gradients_ + row * kStride + kPad + min(max(key, -1), kWindow);
    };
#pragma unroll
    for (int x = 0; x < 4; ++x) {
      const int row = 16 * k + x / 2 * 8 + fragment_column(), distance = nearest + x % 2 * 8 + fragment_row();
      a[x] = word(place(row, distance), place(row + 1, distance));
    }
    return __any_sync(0xFFFFFFFFu, any) != 0;
  }

  T* score_gradients_;
  const T* queries_;
  float *sums_, *totals_;
  int position_rows_;
};

}  // namespace xlformers::cuda
