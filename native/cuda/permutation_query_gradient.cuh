// Gradient of the queries of both streams, without tensor cores.
#pragma once

#include "cuda/permutation_gradient.cuh"

namespace xlformers::cuda {

// A block: kSide rows of a stream, of one batch row and head, over all keys. FLOPs: 10 * head_dim a score (rows that say where they stand:
// 14 and more); tiles that no row sees are passed over. Writes each row once, and its sums of dS by segment.
template <typename T, int kColumns>
__global__ void __launch_bounds__(kScalarThreads, 1)
    permutation_scalar_query_gradient(const PermutationGradientProblem<T> problem, int tiles) {
  using C = Compute<T>;
  using Tile = ScalarTile<C>;
  constexpr int kMicro = Tile::kMicro, kSide = Tile::kSide;
  XL_DYNAMIC_SHARED(shared_bytes);
  XL_SHARED(rows, ScalarTileRows<T>);
  C* const staging = reinterpret_cast<C*>(shared_bytes);
  C* const tile = scalar_tile<C, kColumns>(staging, 0);  // dS [key][query], or by distances [distance][query]
  const PermutationProblem<T>& forward = problem.forward;
  const RelativeProblem<T>& shared = forward.shared;
  const int pair = static_cast<int>(blockIdx.x) / tiles;
  PermutationGradientTile<T> block(problem, rows, pair / shared.heads, pair % shared.heads);
  block.load(static_cast<int>(blockIdx.x) % tiles, true);
  const int row0 = scalar_y() * kMicro;
  const bool segments = forward.segment_embedding != nullptr;

  clear_margins(tile);
  C sums[kMicro][kColumns] = {};
  C segment_sums[2][kMicro] = {};
  for (int key0 = 0; key0 < shared.band.keys; key0 += kSide) {
    const auto used = block.used(key0);
    if (__syncthreads_or(used != 0) == 0) continue;
    typename Tile::Sums probabilities = {}, gradients = {};
    block.score_gradients(key0, used, staging, tile, probabilities, gradients);
    if (segments) {
#pragma unroll
      for (int r = 0; r < kMicro; ++r) {
#pragma unroll
        for (int c = 0; c < kMicro; ++c) {
          const bool differ = block.segments_differ(row0 + r, key0 + scalar_x() * kMicro + c);
          segment_sums[0][r] += differ ? C{0} : gradients[r][c];
          segment_sums[1][r] += differ ? gradients[r][c] : C{0};
        }
      }
    }
    store_tile<C>(gradients, tile, 1, ScalarTile<C>::kStride);
    add_tile_product(tile, row_operand<T>([&](int j) { return block.head.key(key0 + j); }), shared.head_dim, staging, sums);
    if (block.consecutive()) {
      const int first = block.distance(rows.position[kSide - 1], key0);
      add_diagonal_tile_product(tile, row_operand<T>([&](int x) { return block.position(first - x); }), shared.head_dim, staging, sums);
    } else {
      block.for_each_chunk(key0, [&](int nearest) {
        __syncthreads();
        clear_tile(tile);
        __syncthreads();
        block.scatter_distances(key0, gradients, nearest, tile);
        add_tile_product(tile, row_operand<T>([&](int x) { return block.position(nearest + x); }), shared.head_dim, staging, sums);
      });
    }
  }
#pragma unroll
  for (int r = 0; r < kMicro; ++r) {
    const C same = row_sum(segment_sums[0][r]), other = row_sum(segment_sums[1][r]);
    const int row = rows.row[row0 + r];
    if (row < 0) continue;
    if (segments) {
      const T* const e = forward.segment_embedding + block.head.column();
#pragma unroll
      for (int n = 0; n < kColumns; ++n) {
        const int column = head_column<C>(n);
        if (column < shared.head_dim) sums[r][n] += same * widen(e[column]) + other * widen(e[shared.heads * shared.head_dim + column]);
      }
      if (scalar_x() == 0) block.segment_sums(row)[0] = same, block.segment_sums(row)[1] = other;
    }
    write_columns<T>(sums[r], shared.scale, shared.head_dim, block.query_gradient(row));
  }
}

}  // namespace xlformers::cuda
