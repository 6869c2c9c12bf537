// Gradients of keys and values, without tensor cores.
#pragma once

#include "cuda/relative_scalar_gradient.cuh"

namespace xlformers::cuda {

// A block: kSide keys of one batch row and head, over all queries that see them. FLOPs: 10 * head_dim a score. Writes each row once, and
// key_sums, the sums of dS over queries, which the gradient of the content bias is made of.
template <typename T, int kColumns>
__global__ void __launch_bounds__(kScalarThreads, 1) relative_scalar_key_gradient(const RelativeGradientProblem<T> problem) {
  using C = Compute<T>;
  using Tile = ScalarTile<C>;
  constexpr int kMicro = Tile::kMicro, kSide = Tile::kSide;
  XL_DYNAMIC_SHARED(shared_bytes);
  C* const staging = reinterpret_cast<C*>(shared_bytes);
  C* const score_tile = scalar_tile<C, kColumns>(staging, 0);        // dS [query][key]
  C* const probability_tile = scalar_tile<C, kColumns>(staging, 1);  // dropout(P) [query][key]
  const RelativeProblem<T>& forward = problem.forward;
  const int tiles = (forward.band.keys + kSide - 1) / kSide;
  const int pair = static_cast<int>(blockIdx.x) / tiles;
  const RelativeGradientHead<T> head(problem, pair / forward.heads, pair % forward.heads);
  const int key0 = static_cast<int>(blockIdx.x) % tiles * kSide;

  C key_sums[kMicro][kColumns] = {}, value_sums[kMicro][kColumns] = {};
  C column_sum = 0;  // of dS for key key0 + threadIdx.x
  const int end = min(forward.query_length, forward.band.end_query(min(key0 + kSide, forward.band.keys)));
  for (int query0 = forward.band.first_query(key0) / kSide * kSide; query0 < end; query0 += kSide) {
    const auto out_gradients = row_operand<T>([&](int i) { return head.out_gradient(query0 + i); }, head.head_scale());
    typename Tile::Sums scores = {}, products = {};
    relative_scores<T>(head, query0, key0, staging, scores);
    add_products(out_gradients, row_operand<T>([&](int j) { return head.value(key0 + j); }), forward.head_dim, staging, products);
    score_gradients(head, query0 + scalar_y() * kMicro, key0 + scalar_x() * kMicro, 0, 1, scores, products);
    store_tile<C>(products, score_tile, Tile::kStride, 1);
    store_tile<C>(scores, probability_tile, Tile::kStride, 1);
    const auto queries = row_operand<T>([&](int i) { return head.query(query0 + i); }, forward.scale, head.content_bias());
    add_tile_product(score_tile, queries, forward.head_dim, staging, key_sums);
    add_tile_product(probability_tile, out_gradients, forward.head_dim, staging, value_sums);
    add_column_sum(score_tile, column_sum);
  }
  write_key_gradients<T>(problem, head, key0, key_sums, value_sums, column_sum);
}

}  // namespace xlformers::cuda
