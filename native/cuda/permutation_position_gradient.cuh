// Gradient of positions, without tensor cores.
#pragma once

#include "cuda/permutation_gradient.cuh"

namespace xlformers::cuda {

// A block: kSide rows of r of one head, over a part of the batch and the rows of both streams. A tile of rows meets these distances at
// kSide + its span keys, whose scores are computed again, two tiles of them for consecutive rows; their dS go where their distance is.
// FLOPs: 14 * head_dim a score for consecutive rows. Nothing is summed across blocks but the parts of the batch.
template <typename T, int kColumns>
__global__ void __launch_bounds__(kScalarThreads, 1)
    permutation_scalar_position_gradient(const PermutationGradientProblem<T> problem, int tiles) {
  using C = Compute<T>;
  using Tile = ScalarTile<C>;
  constexpr int kMicro = Tile::kMicro, kSide = Tile::kSide;
  XL_DYNAMIC_SHARED(shared_bytes);
  XL_SHARED(rows, ScalarTileRows<T>);
  C* const staging = reinterpret_cast<C*>(shared_bytes);
  C* const tile = scalar_tile<C, kColumns>(staging, 0);   // dS [query][position]
  C* const chunk = scalar_tile<C, kColumns>(staging, 1);  // scratch of scores
  const RelativeProblem<T>& shared = problem.forward.shared;
  const PositionBlock<C> part(problem.shared);
  const int memory = shared.band.memory;

  C sums[kMicro][kColumns] = {};
  C row_total = 0;  // of dS for position part.row0 + threadIdx.x
  for (int batch = part.batch_begin; batch < part.batch_end; ++batch) {
    PermutationGradientTile<T> block(problem, rows, batch, part.head);
    const bool reversed = block.reversed();
    const int sign = reversed ? -1 : 1, nearest_row = shared.first_distance + part.row0;
    // Distances of the rows of r: [lowest, lowest + kSide).
    const int lowest = reversed ? -(nearest_row + kSide - 1) : nearest_row;
    for (int t = 0; t < tiles; ++t) {
      block.load(t, true);
      if (rows.last_position < rows.first_position) continue;
      const int key_end = min(shared.band.keys, memory + rows.last_position - lowest + 1);
      bool any = false;
      for (int key0 = max(0, memory + rows.first_position - lowest - (kSide - 1)); key0 < key_end; key0 += kSide) {
        auto used = block.used(key0);
#pragma unroll
        for (int r = 0; r < kMicro; ++r) {
          const int first = block.distance(rows.position[scalar_y() * kMicro + r], key0 + scalar_x() * kMicro) - lowest;
#pragma unroll
          for (int c = 0; c < kMicro; ++c) {
            if (first - c < 0 || first - c >= kSide) used &= ~(1u << (r * kMicro + c));
          }
        }
        if (__syncthreads_or(used != 0) == 0) continue;
        if (!any) clear_tile(tile);
        any = true;
        typename Tile::Sums probabilities = {}, gradients = {};
        block.score_gradients(key0, used, staging, chunk, probabilities, gradients);
        block.scatter_rows(key0, used, gradients, sign, nearest_row, tile);
      }
      if (!any) continue;
      add_tile_product(tile, row_operand<T>([&](int i) { return block.query(i); }, shared.scale, block.head.position_bias()),
                       shared.head_dim, staging, sums);
      add_column_sum(tile, row_total);
    }
  }
  part.write(problem.shared, sums, row_total);
}

}  // namespace xlformers::cuda
