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

// Starts copying terms[offset + index], 0 where there is none.
__device__ __forceinline__ void copy_term(const float* terms, int64_t offset, int index, int length, float* to) {
  if (terms != nullptr && index >= 0 && index < length) {
    cp_async<4>(to, terms + offset + index);
  } else {
    *to = 0;
  }
}

// Starts copying `count` keys and values from `key` on.
template <int D, int kThreads, bool kOneByOne = (D > 128), typename T>
__device__ __forceinline__ void copy_keys(const RelativeHead<T>& head, int key, int count, T* keys, T* values) {
  const RelativeProblem<T>& rows = head.problem;
  copy_tile<D, kThreads, kOneByOne>(
      count, rows.head_dim, rows.query.first, [&](int j) { return head.key(key + j); }, keys);
  copy_tile<D, kThreads, kOneByOne>(
      count, rows.head_dim, rows.query.first, [&](int j) { return head.value(key + j); }, values);
}

// Starts copying the positions of diagonals [z, z + count) and their terms into rings of `size` rows; `position`: of diagonal 0. The
// distance falls with the diagonal.
template <int D, int kThreads, int size, bool kOneByOne = (D > 128), typename T>
__device__ __forceinline__ void copy_diagonals(const RelativeHead<T>& head, int position, int z, int count, const float* terms, T* ring,
                                               float* ring_terms) {
  const RelativeProblem<T>& rows = head.problem;
  copy_rows<D, kThreads, kOneByOne>(
      count, rows.head_dim, rows.query.first, [&](int i) { return head.position(position - z - i); },
      [&](int i) { return ring + (z + i) % size * head_stride(D); });
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads) {
    copy_term(terms, static_cast<int64_t>(head.head) * rows.position_rows, position - z - i, rows.position_rows,
              ring_terms + (z + i) % size);
  }
}

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
