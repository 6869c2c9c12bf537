// What the tensor-core kernels of relative attention share: operands in the form they take, and sizes of tiles by head size.
#pragma once

#include "cuda/attention_fragments.cuh"
#include "cuda/relative_problem.cuh"

namespace xlformers::cuda {

// Rows are 16-byte aligned and head_dim of `rows` is a multiple of 8: operands that are otherwise were packed with zeros
// (relative_pack.cuh). Outputs, the content bias and log_sum_exp have the problem's own head size.
template <typename T>
struct TensorProblem {
  RelativeProblem<T> rows;
  int head_dim;
  const float* position_terms;  // v . r: [heads, position_rows], or null
};

// D: the head size rounded up to a tile's.
template <int D>
struct TensorTile {
  static constexpr int kWarps = D <= 192 ? 4 : 2;
  static constexpr int kThreads = 32 * kWarps;
  static constexpr int kRowTiles = D <= 64 ? 2 : 1;  // of 16 queries, by warp: two use each fragment of keys twice
  static constexpr int kKeys = D <= 128 ? 32 : 16;   // by step
  static constexpr int kKeyTiles = kKeys / 8;
  static constexpr int kSteps = D / 16;  // of a product over the head
  static constexpr int kQueries = kWarps * kRowTiles * 16;
  static constexpr int kStride = head_stride(D);
  static constexpr bool kQueriesInRegisters = D <= 192;
  // Positions in shared memory: the diagonals of a step, and those that the next one adds.
  static constexpr int kRing = kQueries + 2 * kKeys;
};

// visit(std::integral_constant<int, D>) with the smallest tile for a head size.
template <typename Visit>
Status with_tensor_tile(int head_dim, const Visit& visit) {
  if (head_dim <= 32) return visit(std::integral_constant<int, 32>());
  if (head_dim <= 48) return visit(std::integral_constant<int, 48>());
  if (head_dim <= 64) return visit(std::integral_constant<int, 64>());
  if (head_dim <= 96) return visit(std::integral_constant<int, 96>());
  if (head_dim <= 128) return visit(std::integral_constant<int, 128>());
  if (head_dim <= 192) return visit(std::integral_constant<int, 192>());
  return visit(std::integral_constant<int, 256>());
}

}  // namespace xlformers::cuda
