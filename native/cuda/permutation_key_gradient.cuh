// Gradients of keys and values, without tensor cores.
#pragma once

#include "cuda/permutation_gradient.cuh"

namespace xlformers::cuda {

// A block: kSide keys of one batch row and head, over the rows of both streams. FLOPs: 10 * head_dim a score (rows that say where they
// stand: 12 and more). Writes each row once, and the sums of dS over queries, which the gradient of the content bias is made of.
template <typename T, int kColumns>
__global__ void __launch_bounds__(kScalarThreads, 1)
    permutation_scalar_key_gradient(const PermutationGradientProblem<T> problem, int tiles) {
  using C = Compute<T>;
  using Tile = ScalarTile<C>;
  constexpr int kMicro = Tile::kMicro, kSide = Tile::kSide;
  XL_DYNAMIC_SHARED(shared_bytes);
  XL_SHARED(rows, ScalarTileRows<T>);
  C* const staging = reinterpret_cast<C*>(shared_bytes);
  C* const score_tile = scalar_tile<C, kColumns>(staging, 0);        // dS [query][key]
  C* const probability_tile = scalar_tile<C, kColumns>(staging, 1);  // dropout(P) [query][key]
  const RelativeProblem<T>& shared = problem.forward.shared;
  const int key_tiles = (shared.band.keys + kSide - 1) / kSide;
  const int pair = static_cast<int>(blockIdx.x) / key_tiles;
  const int key0 = static_cast<int>(blockIdx.x) % key_tiles * kSide;
  PermutationGradientTile<T> block(problem, rows, pair / shared.heads, pair % shared.heads);

  C key_sums[kMicro][kColumns] = {}, value_sums[kMicro][kColumns] = {};
  C column_sum = 0;  // of dS for key key0 + threadIdx.x
  for (int t = 0; t < tiles; ++t) {
    block.load(t, true);
    const auto used = block.used(key0);
    if (__syncthreads_or(used != 0) == 0) continue;
    {
      typename Tile::Sums probabilities = {}, gradients = {};
      block.score_gradients(key0, used, staging, score_tile, probabilities, gradients);
      store_tile<C>(gradients, score_tile, ScalarTile<C>::kStride, 1);
      store_tile<C>(probabilities, probability_tile, ScalarTile<C>::kStride, 1);
    }
    add_tile_product(score_tile, row_operand<T>([&](int i) { return block.query(i); }, shared.scale, block.head.content_bias()),
                     shared.head_dim, staging, key_sums);
    add_tile_product(probability_tile, row_operand<T>([&](int i) { return block.out_gradient(i); }, block.head.head_scale()),
                     shared.head_dim, staging, value_sums);
    add_column_sum(score_tile, column_sum);
  }
  write_key_gradients(problem.shared, block.head, key0, key_sums, value_sums, column_sum);
}

}  // namespace xlformers::cuda
