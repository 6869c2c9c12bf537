// The attention probabilities of both streams as matrices, for people who want to see them; from the log-sum-exp of the forward pass.
#include "cuda/attention_ring.h"
#include "cuda/permutation_tile.cuh"

namespace xlformers::cuda {
namespace {

// A block: a tile of scores of one stream, written once. Bound by those writes: sizeof(T) bytes a score. A null matrix is not wanted.
template <typename T>
__global__ void __launch_bounds__(kScalarThreads, 2)
    permutation_probabilities(const PermutationProblem<T> problem, int tiles, T* content_matrix, T* query_matrix) {
  using C = Compute<T>;
  using Tile = ScalarTile<C>;
  constexpr int kMicro = Tile::kMicro, kSide = Tile::kSide;
  XL_DYNAMIC_SHARED(shared_bytes);
  XL_SHARED(rows, ScalarTileRows<T>);
  C* const staging = reinterpret_cast<C*>(shared_bytes);
  C* const chunk = scalar_tile<C, 4>(staging, 0);
  const RelativeProblem<T>& shared = problem.shared;
  const int key_tiles = (shared.band.keys + kSide - 1) / kSide;
  const int index = static_cast<int>(blockIdx.x) / key_tiles;
  const int key0 = static_cast<int>(blockIdx.x) % key_tiles * kSide;
  const int pair = index / tiles;
  PermutationTile<T> block(problem, rows, pair / shared.heads, pair % shared.heads);
  block.load(index % tiles, true);
  T* const matrix = rows.is_query ? query_matrix : content_matrix;
  if (matrix == nullptr) return;
  const auto used = block.used(key0);
  typename Tile::Sums scores = {};
  if (__syncthreads_or(used != 0) != 0) block.add_scores(key0, staging, chunk, scores);
  const int column0 = key0 + scalar_x() * kMicro;
#pragma unroll
  for (int r = 0; r < kMicro; ++r) {
    const int i = scalar_y() * kMicro + r, row = rows.row[i];
    if (row < 0) continue;
    C kept[kMicro];
    kept_factors(rows.stream.dropout, pair, row, column0, 1, kept);
    T* const to = matrix + block.statistic_offset(row) * shared.band.keys;
#pragma unroll
    for (int c = 0; c < kMicro; ++c) {
      const C p = (used >> (r * kMicro + c) & 1) != 0 ? block.probability(i, scores[r][c]) * block.head.head_scale() * kept[c] : C{0};
      if (column0 + c < shared.band.keys) to[column0 + c] = narrow<T>(p);
    }
  }
}

template <typename T>
Status fill(const Context& context, const PermutationAttentionProbabilitiesParams& params) {
  using C = Compute<T>;
  PermutationProblem<T> problem;
  const Status status = make_permutation_problem(context, Operator::permutation_attention_probabilities, params.forward, &problem);
  if (!status.ok()) return status;
  const RelativeProblem<T>& shared = problem.shared;
  const int64_t tiles = tiles_of_streams(problem);
  const int64_t blocks = static_cast<int64_t>(shared.batch) * shared.heads * tiles * tiles_of(shared.band.keys, ScalarTile<C>::kSide);
  return launch_tiles(context, problem, blocks, scalar_shared_bytes<C>(4, 1), permutation_probabilities<T>, problem, static_cast<int>(tiles),
                      static_cast<T*>(params.content_probabilities), static_cast<T*>(params.query_probabilities));
}

}  // namespace

Status permutation_attention_probabilities(const Context& context, const void* block) {
  PermutationAttentionProbabilitiesParams params = *static_cast<const PermutationAttentionProbabilitiesParams*>(block);
  PermutationAttentionParams& forward = params.forward;
  forward.memory.value = nullptr;  // not read
  const Status status = unroll_ring(context, Operator::permutation_attention_probabilities, forward.dtype, forward.batch,
                                    forward.heads * forward.head_dim, &forward.memory);
  if (!status.ok()) return status;
  return with_float_type(params.forward.dtype, [&](auto tag) { return fill<typename decltype(tag)::Type>(context, params); });
}

}  // namespace xlformers::cuda
