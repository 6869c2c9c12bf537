// Scores of a tile of relative attention in registers, without tensor cores. See attention_scalar_tile.cuh for who owns what.
#pragma once

#include <type_traits>

#include "cuda/attention_scalar_tile.cuh"
#include "cuda/relative_problem.cuh"

namespace xlformers::cuda {

// scores[r][c] of query `query` + r and key `key` + c, the tile's corner given: scale ((q_i + u) . k_j + (q_i + v) . r_{M + i - j}).
template <typename T>
__device__ void relative_scores(const RelativeHead<T>& head, int query, int key, Compute<T>* staging,
                                typename ScalarTile<Compute<T>>::Sums& scores) {
  using C = Compute<T>;
  constexpr int kSide = ScalarTile<C>::kSide;
  const auto query_row = [&](int i) { return head.query(query + i); };
  const int columns = head.problem.head_dim;
  const C scale = head.problem.scale;
  add_products(row_operand<T>(query_row, scale, head.content_bias()), row_operand<T>([&](int j) { return head.key(key + j); }), columns,
               staging, scores);
  // Window row x = kSide - 1 - i + j, so that the distance falls by one a row.
  const int first = head.position_row(query + kSide - 1, key);
  add_diagonal_products(row_operand<T>(query_row, scale, head.position_bias()),
                        row_operand<T>([&](int x) { return head.position(first - x); }), columns, staging, scores);
}

// visit(std::integral_constant<int, columns>) with the columns of the head that a thread owns: 4, 8 or 16 of them, by 16 threads.
template <typename Visit>
Status with_scalar_columns(int head_dim, const Visit& visit) {
  if (head_dim <= 64) return visit(std::integral_constant<int, 4>());
  if (head_dim <= 128) return visit(std::integral_constant<int, 8>());
  return visit(std::integral_constant<int, 16>());
}

template <typename C>
constexpr size_t scalar_shared_bytes(int columns, int tiles) {
  return sizeof(C) * static_cast<size_t>(ScalarTile<C>::staging(columns) + tiles * ScalarTile<C>::kElements);
}

// The n-th tile [inner][kStride] behind the staging area, at its first row behind the margin.
template <typename C, int kColumns>
__device__ C* scalar_tile(C* shared, int n) {
  using Tile = ScalarTile<C>;
  return shared + Tile::staging(kColumns) + n * Tile::kElements + Tile::kMargin * Tile::kStride;
}

// Blocks that a multiprocessor shall hold: two keep it busy; large heads and doubles need the registers of one.
template <typename T>
__host__ __device__ constexpr int scalar_blocks(int columns) {
  return columns <= 4 && sizeof(T) <= 4 ? 2 : 1;
}

inline int tiles_of(int64_t length, int side) { return static_cast<int>((length + side - 1) / side); }

}  // namespace xlformers::cuda
