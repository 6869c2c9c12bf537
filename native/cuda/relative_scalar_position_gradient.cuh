// Gradient of positions, without tensor cores.
#pragma once

#include "cuda/relative_scalar_gradient.cuh"

namespace xlformers::cuda {

// A block: kSide rows of r of one head, over a part of the batch and all queries. Here the positions are the columns of a tile: their term
// is a plain product, keys and values are windows along diagonals, and nothing is summed across blocks but the parts of the batch.
// FLOPs: 8 * head_dim a score (the tiles' corners included, 10).
template <typename T, int kColumns>
__global__ void __launch_bounds__(kScalarThreads, 1) relative_scalar_position_gradient(const RelativeGradientProblem<T> problem) {
  using C = Compute<T>;
  using Tile = ScalarTile<C>;
  constexpr int kMicro = Tile::kMicro, kSide = Tile::kSide;
  XL_DYNAMIC_SHARED(shared_bytes);
  C* const staging = reinterpret_cast<C*>(shared_bytes);
  C* const tile = scalar_tile<C, kColumns>(staging, 0);  // dS [query][position]
  const RelativeProblem<T>& forward = problem.forward;
  const PositionBlock<C> part(problem);
  const int row0 = part.row0;

  C sums[kMicro][kColumns] = {};
  C row_total = 0;  // of dS for position row0 + threadIdx.x
  for (int batch = part.batch_begin; batch < part.batch_end; ++batch) {
    const RelativeGradientHead<T> head(problem, batch, part.head);
    const auto positions = row_operand<T>([&](int p) { return head.position(row0 + p); });
    for (int query0 = 0; query0 < forward.query_length; query0 += kSide) {
      const int last = min(query0 + kSide, forward.query_length) - 1;
      // Key of the tile's first row and first column; it rises with the row and falls with the column.
      const int corner = forward.band.memory + query0 - forward.first_distance - row0;
      if (corner + kSide - 1 < head.first_key(query0) || corner - (kSide - 1) >= head.end_key(last)) continue;
      const int first = corner + kSide - 1;
      const auto query_row = [&](int i) { return head.query(query0 + i); };
      const auto queries = row_operand<T>(query_row, forward.scale, head.position_bias());
      typename Tile::Sums scores = {}, products = {};
      add_products(queries, positions, forward.head_dim, staging, scores);
      add_diagonal_products(row_operand<T>(query_row, forward.scale, head.content_bias()),
                            row_operand<T>([&](int x) { return head.key(first - x); }), forward.head_dim, staging, scores);
      add_diagonal_products(row_operand<T>([&](int i) { return head.out_gradient(query0 + i); }, head.head_scale()),
                            row_operand<T>([&](int x) { return head.value(first - x); }), forward.head_dim, staging, products);
      score_gradients(head, query0 + scalar_y() * kMicro, corner + (scalar_y() - scalar_x()) * kMicro, 1, -1, scores, products);
      store_tile<C>(products, tile, Tile::kStride, 1);
      add_tile_product(tile, queries, forward.head_dim, staging, sums);
      add_column_sum(tile, row_total);
    }
  }
  part.write(problem, sums, row_total);
}

}  // namespace xlformers::cuda
