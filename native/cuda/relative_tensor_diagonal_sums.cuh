// dR beside dQ, without atomics and in a fixed order: a block that makes dU for its queries multiplies it by them as well.
#pragma once

#include "cuda/relative_tensor_gradient.cuh"

namespace xlformers::cuda {

// Sums over a block's queries of dU^T Q, and of dU, by position, in the block's own part of memory, where a block goes on with one tile of
// queries after another. A step of 32 keys gives each warp, whose 16 queries are shifted by one tile against the next warp's, dU of two
// tiles of 16 diagonals: warp w's begin at tile kWarps - 1 - w. A step meets kWarps + 1 tiles, completes two of them and begins two. A
// warp sums 16 columns of all of these, in registers while they are met; memory is read when a tile comes and written when it goes.
//
// Bytes: 8 * head_dim a position and tile of queries, nearly all in the L2 cache: the 64 KiB to 256 KiB of a block that runs are read again
// in its next tile of queries.
template <typename T, int D, int kWarps>
class DiagonalSums {
 public:
  static constexpr int kTiles = kWarps + 1;
  static constexpr int kBlockWords = 4 * 32;                  // dU [16 queries, 16 diagonals]: four matrices of 8 x 8
  static constexpr int kSharedWords = kWarps * 2 * kBlockWords;

  // `split`: of the partial sums; blocks: kSharedWords in shared memory; queries: the tile's, there too.
  __device__ DiagonalSums(const RelativeGradientProblem<T>& gradient, int head, int split, uint32_t* blocks, const T* queries)
      : blocks_(blocks), queries_(queries), rows_(gradient.forward.position_rows), column_(warp_index() * 16) {
    const int64_t first = (static_cast<int64_t>(split) * gradient.forward.heads + head) * rows_;
    partial_ = gradient.partial + first * D;
    totals_ = gradient.partial_sums + first;
  }

  // A barrier is needed behind it.
  __device__ void clear() const {
    for (int i = static_cast<int>(threadIdx.x); i < rows_; i += 32 * kWarps) totals_[i] = 0;
    const int64_t pieces = static_cast<int64_t>(rows_) * (D / 4);
    for (int64_t i = threadIdx.x; i < pieces; i += 32 * kWarps) reinterpret_cast<float4*>(partial_)[i] = make_float4(0, 0, 0, 0);
  }

  // Before the first step of a tile of queries; `position`: of diagonal 0. Positions of tiles agree modulo 16.
  __device__ __forceinline__ void begin(int position) {
    position_ = position;
#pragma unroll
    for (int t = 0; t < kTiles - 2; ++t) load(t);
  }

  // The warp's dU, as a fragment A, of its first or second tile of diagonals in this step.
  __device__ __forceinline__ void put(const uint32_t (&a)[4], int which) const {
    uint32_t* const to = blocks_ + (warp_index() * 2 + which) * kBlockWords + lane_index();
#pragma unroll
    for (int x = 0; x < 4; ++x) to[32 * x] = a[x];
  }

  // Has a barrier between the puts and their use; another is needed before the next puts.
  __device__ __forceinline__ void add_step() {
    load(kTiles - 2);
    load(kTiles - 1);
    float before[kTotals][2];
    for_totals([&](int u, int, int half, float* total) { before[u][half] = *total; });
    __syncthreads();
    if (column_ < D) {
#pragma unroll
      for (int t = 0; t < kTiles; ++t) {
#pragma unroll
        for (int which = 0; which < 2; ++which) {
          const int warp = kWarps - 1 - t + which;
          if (warp < 0 || warp >= kWarps) continue;
          uint32_t a[4], b[4];
          load_transposed(warp, which, a);
          load_columns<D>(queries_ + 16 * warp * head_stride(D), column_, b);
          mma_m16n8k16<T>(sums_[t][0], a, b[0], b[1]);
          mma_m16n8k16<T>(sums_[t][1], a, b[2], b[3]);
        }
      }
    }
    const uint32_t ones = pack<T>(1.0f, 1.0f);
    float totals[kTotals][4] = {};
#pragma unroll
    for (int u = 0; u < kTotals; ++u) {
      const int t = warp_index() + u * kWarps;
#pragma unroll
      for (int which = 0; which < 2; ++which) {
        const int warp = kWarps - 1 - t + which;
        if (warp < 0 || warp >= kWarps) continue;
        uint32_t a[4];
        load_transposed(warp, which, a);
        mma_m16n8k16<T>(totals[u], a, ones, ones);
      }
    }
    for_totals([&](int u, int, int half, float* total) { *total = before[u][half] + totals[u][2 * half]; });
    store(0);
    store(1);
#pragma unroll
    for (int t = 0; t < kTiles - 2; ++t) {
#pragma unroll
      for (int n = 0; n < 2; ++n) {
#pragma unroll
        for (int e = 0; e < 4; ++e) sums_[t][n][e] = sums_[t + 2][n][e];
      }
    }
    position_ -= 32;
  }

  // After the last step of a tile of queries.
  __device__ __forceinline__ void end() {
#pragma unroll
    for (int t = 0; t < kTiles - 2; ++t) store(t);
  }

 private:
  static constexpr int kTotals = (kTiles + kWarps - 1) / kWarps;  // tiles whose totals a warp sums

  // visit(n, half, float2*) for what the lane has of a tile's sums
  template <typename Visit>
  __device__ __forceinline__ void for_pairs(int t, const Visit& visit) const {
    if (column_ >= D) return;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = position_ - (16 * t + 8 * half + fragment_row());
      if (row < 0 || row >= rows_) continue;
      float* const from = partial_ + static_cast<int64_t>(row) * D + column_ + fragment_column();
#pragma unroll
      for (int n = 0; n < 2; ++n) visit(n, half, reinterpret_cast<float2*>(from + 8 * n));
    }
  }

  // visit(u, row, half, float*) for the totals that the lane keeps, of the warp's tiles
  template <typename Visit>
  __device__ __forceinline__ void for_totals(const Visit& visit) const {
    if (fragment_column() != 0) return;
#pragma unroll
    for (int u = 0; u < kTotals; ++u) {
      const int t = warp_index() + u * kWarps;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = position_ - (16 * t + 8 * half + fragment_row());
        if (t < kTiles && row >= 0 && row < rows_) visit(u, row, half, totals_ + row);
      }
    }
  }

  __device__ __forceinline__ void load(int t) {
#pragma unroll
    for (int n = 0; n < 2; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) sums_[t][n][e] = 0;
    }
    for_pairs(t, [&](int n, int half, const float2* from) {
      const float2 pair = *from;
      sums_[t][n][2 * half] = pair.x, sums_[t][n][2 * half + 1] = pair.y;
    });
  }

  __device__ __forceinline__ void store(int t) const {
    for_pairs(t, [&](int n, int half, float2* to) { *to = make_float2(sums_[t][n][2 * half], sums_[t][n][2 * half + 1]); });
  }

  // Fragment A [16 diagonals, 16 queries] of a block: its four matrices, each transposed, the second and the third exchanged.
  __device__ __forceinline__ void load_transposed(int warp, int which, uint32_t (&a)[4]) const {
    const int matrix = lane_index() / 8, given = matrix % 2 * 2 + matrix / 2;
    const uint32_t* const block = blocks_ + (warp * 2 + which) * kBlockWords;
    ldmatrix_transposed<4>(a, reinterpret_cast<const T*>(block + given * 32 + lane_index() % 8 * 4));
  }

  uint32_t* blocks_;
  const T* queries_;
  float *partial_, *totals_;
  int rows_, column_, position_ = 0;
  float sums_[kTiles][2][4];
};

struct NoDiagonalSums {
  static constexpr int kSharedWords = 0;
};

}  // namespace xlformers::cuda
