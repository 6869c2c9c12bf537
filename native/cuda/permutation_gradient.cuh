// A permutation_attention_gradient problem as kernels take it, and the tiles they share.
#pragma once

#include "cuda/permutation_tile.cuh"
#include "cuda/relative_gradient_sums.cuh"

namespace xlformers::cuda {

template <typename T>
struct PermutationGradientStream {
  using C = Compute<T>;

  const T* out_gradient;
  StridedRows<T> query_gradient;
  const C* delta;   // [batch, heads, length]: dO . O
  C* segment_sums;  // [batch, heads, length, 2]: sums of dS over keys of the same and of another segment; null without segments
};

// The formulas of RelativeGradientProblem, for the rows of both streams, and with S_w the row's sum of dS over keys of the same (0) or
// another (1) segment:  dQ += scale (S_0 e_0 + S_1 e_1),  de_w = scale sum over rows of S_w (q + s),  ds = scale sum over rows of S_w e_w.
// A query that sees nothing has P = 1 / keys, and its gradient flows as through any other: XLNet hides by subtracting a constant.
template <typename T>
struct PermutationGradientProblem {
  PermutationProblem<T> forward;
  RelativeGradientProblem<T> shared;  // outputs and sums for keys, values and positions
  PermutationGradientStream<T> content, query;
};

template <typename T>
struct PermutationGradientTile : PermutationTile<T> {
  using C = Compute<T>;
  using Tile = ScalarTile<C>;
  using Seen = typename PermutationTile<T>::Seen;
  static constexpr int kSide = Tile::kSide, kMicro = Tile::kMicro;

  const PermutationGradientProblem<T>& gradient;

  __device__ PermutationGradientTile(const PermutationGradientProblem<T>& the_problem, ScalarTileRows<T>& shared_rows, int batch, int head_index)
      : PermutationTile<T>(the_problem.forward, shared_rows, batch, head_index), gradient(the_problem) {}

  __device__ const T* out_gradient(int i) const {
    if (!this->rows.present(i)) return nullptr;
    const T* const first = is_query() ? gradient.query.out_gradient : gradient.content.out_gradient;
    return first + this->out_offset(this->rows.row[i]);
  }
  __device__ T* query_gradient(int row) const {
    const StridedRows<T> to = is_query() ? gradient.query.query_gradient : gradient.content.query_gradient;
    return to.row(this->head.batch, row, this->head.column());
  }
  __device__ C* segment_sums(int row) const {
    return (is_query() ? gradient.query.segment_sums : gradient.content.segment_sums) + 2 * this->statistic_offset(row);
  }

  // dropout(P) and dS of the thread's elements.
  __device__ void score_gradients(int key0, Seen used, C* staging, C* chunk, typename Tile::Sums& probabilities,
                                  typename Tile::Sums& gradients) const {
    const RelativeProblem<T>& shared = this->problem.shared;
    this->add_scores(key0, staging, chunk, probabilities);
    const auto rows_of_gradient = row_operand<T>([&](int i) { return out_gradient(i); }, this->head.head_scale());
    add_products(rows_of_gradient, row_operand<T>([&](int j) { return this->head.value(key0 + j); }), shared.head_dim, staging, gradients);
    const int column0 = key0 + scalar_x() * kMicro;
#pragma unroll
    for (int r = 0; r < kMicro; ++r) {
      const int i = scalar_y() * kMicro + r;
      const bool present = this->rows.present(i);
      const int row = this->rows.row[i];
      const C* const deltas = is_query() ? gradient.query.delta : gradient.content.delta;
      const C delta = present ? deltas[this->statistic_offset(row)] : C{0};
      C kept[kMicro];
      kept_factors(this->rows.stream.dropout, this->head.pair(), row, column0, 1, kept);
#pragma unroll
      for (int c = 0; c < kMicro; ++c) {
        const C p = (used >> (r * kMicro + c) & 1) != 0 ? this->probability(i, probabilities[r][c]) : C{0};
        probabilities[r][c] = p * kept[c];
        gradients[r][c] = p * (gradients[r][c] * kept[c] - delta);
      }
    }
  }

  // chunk [distance - nearest][row] = dS, where the chunk has the distance. All threads must have left the chunk.
  __device__ void scatter_distances(int key0, const typename Tile::Sums& gradients, int nearest, C* chunk) const {
#pragma unroll
    for (int r = 0; r < kMicro; ++r) {
      const int i = scalar_y() * kMicro + r;
      const int x = this->distance(this->rows.position[i], key0 + scalar_x() * kMicro) - nearest;
#pragma unroll
      for (int c = 0; c < kMicro; ++c) {
        if (x - c >= 0 && x - c < kSide) chunk[(x - c) * Tile::kStride + i] = gradients[r][c];
      }
    }
  }

  // tile [row][sign * distance - nearest_row] = dS of the used pairs, whose distances the tile must have.
  __device__ void scatter_rows(int key0, Seen used, const typename Tile::Sums& gradients, int sign, int nearest_row, C* tile) const {
#pragma unroll
    for (int r = 0; r < kMicro; ++r) {
      const int i = scalar_y() * kMicro + r;
      const int first = this->distance(this->rows.position[i], key0 + scalar_x() * kMicro);
#pragma unroll
      for (int c = 0; c < kMicro; ++c) {
        if ((used >> (r * kMicro + c) & 1) != 0) tile[i * Tile::kStride + sign * (first - c) - nearest_row] = gradients[r][c];
      }
    }
  }

 private:
  __device__ bool is_query() const { return this->rows.is_query; }
};

template <typename C>
__device__ void clear_tile(C* tile) {
  using Tile = ScalarTile<C>;
  for (int i = static_cast<int>(threadIdx.x); i < Tile::kSide * Tile::kStride; i += kScalarThreads) tile[i] = 0;
}

}  // namespace xlformers::cuda
