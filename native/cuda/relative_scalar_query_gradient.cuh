// Gradient of queries, without tensor cores.
#pragma once

#include "cuda/relative_scalar_gradient.cuh"

namespace xlformers::cuda {

// A block: kSide queries of one batch row and head, over all keys that they see. FLOPs: 10 * head_dim a score. Writes each row once.
template <typename T, int kColumns>
__global__ void __launch_bounds__(kScalarThreads, 1) relative_scalar_query_gradient(const RelativeGradientProblem<T> problem) {
  using C = Compute<T>;
  using Tile = ScalarTile<C>;
  constexpr int kMicro = Tile::kMicro, kSide = Tile::kSide;
  XL_DYNAMIC_SHARED(shared_bytes);
  C* const staging = reinterpret_cast<C*>(shared_bytes);
  C* const tile = scalar_tile<C, kColumns>(staging, 0);  // dS [key][query]
  const RelativeProblem<T>& forward = problem.forward;
  const int tiles = (forward.query_length + kSide - 1) / kSide;
  const int pair = static_cast<int>(blockIdx.x) / tiles;
  const RelativeGradientHead<T> head(problem, pair / forward.heads, pair % forward.heads);
  const int query0 = (tiles - 1 - static_cast<int>(blockIdx.x) % tiles) * kSide;
  const int row0 = query0 + scalar_y() * kMicro;

  clear_margins(tile);
  C sums[kMicro][kColumns] = {};
  const int last = min(query0 + kSide, forward.query_length) - 1;
  for (int key0 = head.first_key(query0) / kSide * kSide; key0 < head.end_key(last); key0 += kSide) {
    typename Tile::Sums scores = {}, products = {};
    relative_scores<T>(head, query0, key0, staging, scores);
    add_products(row_operand<T>([&](int i) { return head.out_gradient(query0 + i); }, head.head_scale()),
                 row_operand<T>([&](int j) { return head.value(key0 + j); }), forward.head_dim, staging, products);
    score_gradients(head, row0, key0 + scalar_x() * kMicro, 0, 1, scores, products);
    store_tile<C>(products, tile, 1, Tile::kStride);
    add_tile_product(tile, row_operand<T>([&](int j) { return head.key(key0 + j); }), forward.head_dim, staging, sums);
    const int first = head.position_row(query0 + kSide - 1, key0);
    add_diagonal_tile_product(tile, row_operand<T>([&](int x) { return head.position(first - x); }), forward.head_dim, staging, sums);
  }
#pragma unroll
  for (int r = 0; r < kMicro; ++r) {
    if (row0 + r >= forward.query_length) continue;
    write_columns<T>(sums[r], forward.scale, forward.head_dim, problem.query_gradient.row(head.batch, row0 + r, head.column()));
  }
}

}  // namespace xlformers::cuda
