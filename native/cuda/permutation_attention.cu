// XLNet's attention, forward: online softmax over tiles of keys. Here the kernel without tensor cores, for both streams in one launch.
#include "cuda/attention_ring.h"
#include "cuda/permutation_pack.cuh"
#include "cuda/permutation_tile.cuh"

namespace xlformers::cuda {
namespace {

// A block: kSide rows of a stream, of one batch row and head; the tiles of both streams stand side by side, so that keys, values and
// positions come from L2 for the second. Tiles of keys that no row sees are passed over, unless a row sees nothing at all: then the block
// begins again with all of them. FLOPs: 6 * head_dim a score that is not passed over (rows that say where they stand: 8 and more). Bytes:
// queries, out and log_sum_exp once; no score goes to memory. fp32, two streams, B16 H16 T512 M384 d64 (235M scores, a quarter passed
// over): 68 GFLOP, about 1.7 ms on an H100 at 40 of its 60 TFLOP/s.
template <typename T, int kColumns>
__global__ void __launch_bounds__(kScalarThreads, 1)
    permutation_scalar_forward(const PermutationProblem<T> problem, int tiles) {
  using C = Compute<T>;
  using Tile = ScalarTile<C>;
  constexpr int kMicro = Tile::kMicro, kSide = Tile::kSide;
  XL_DYNAMIC_SHARED(shared_bytes);
  XL_SHARED(rows, ScalarTileRows<T>);
  C* const staging = reinterpret_cast<C*>(shared_bytes);
  C* const tile = scalar_tile<C, kColumns>(staging, 0);  // probabilities [key][query]
  const RelativeProblem<T>& shared = problem.shared;
  const int pair = static_cast<int>(blockIdx.x) / tiles;
  PermutationTile<T> block(problem, rows, pair / shared.heads, pair % shared.heads);
  block.load(static_cast<int>(blockIdx.x) % tiles, false);
  const int row0 = scalar_y() * kMicro;
  const int keys = shared.band.keys;

  C out[kMicro][kColumns];
  C maximum[kMicro], sum[kMicro];
  bool blind = false;
  do {
    const bool all_keys = blind;
#pragma unroll
    for (int r = 0; r < kMicro; ++r) {
      maximum[r] = static_cast<C>(kHiddenScore), sum[r] = 0;
#pragma unroll
      for (int n = 0; n < kColumns; ++n) out[r][n] = 0;
    }
    for (int key0 = 0; key0 < keys; key0 += kSide) {
      const typename PermutationTile<T>::Seen seen = block.seen(key0);
      if (__syncthreads_or(seen != 0) == 0 && !all_keys) continue;
      typename Tile::Sums p = {};
      block.add_scores(key0, staging, tile, p);
      const int column0 = key0 + scalar_x() * kMicro;
#pragma unroll
      for (int r = 0; r < kMicro; ++r) {
        C top = maximum[r];
#pragma unroll
        for (int c = 0; c < kMicro; ++c) {
          if ((seen >> (r * kMicro + c) & 1) == 0) p[r][c] = static_cast<C>(kHiddenScore);
          top = max(top, p[r][c]);
        }
        top = row_max(top);
        const C correction = exponential(maximum[r] - top);
        maximum[r] = top;
        sum[r] *= correction;
#pragma unroll
        for (int n = 0; n < kColumns; ++n) out[r][n] *= correction;
#pragma unroll
        for (int c = 0; c < kMicro; ++c) {
          p[r][c] = column0 + c < keys ? exponential(p[r][c] - top) : C{0};
          sum[r] += p[r][c];
        }
        if (rows.stream.dropout.active()) {
          C kept[kMicro];
          dropout_factors(rows.stream.dropout, pair, rows.row[row0 + r], column0, 1, kept);
#pragma unroll
          for (int c = 0; c < kMicro; ++c) p[r][c] *= kept[c];
        }
      }
      store_tile<C>(p, tile, 1, ScalarTile<C>::kStride);
      add_tile_product(tile, row_operand<T>([&](int j) { return block.head.value(key0 + j); }), shared.head_dim, staging, out);
    }
    blind = false;
#pragma unroll
    for (int r = 0; r < kMicro; ++r) blind = blind || (rows.present(row0 + r) && maximum[r] < static_cast<C>(kBlind));
    blind = __syncthreads_or(blind && !all_keys) != 0;
  } while (blind);

#pragma unroll
  for (int r = 0; r < kMicro; ++r) {
    const C total = row_sum(sum[r]);
    const int row = rows.row[row0 + r];
    if (row < 0) continue;
    const bool present = rows.present(row0 + r);
    write_columns<T>(out[r], present ? block.head.head_scale() / total : C{0}, shared.head_dim, rows.stream.out + block.out_offset(row));
    if (scalar_x() == 0) rows.stream.log_sum_exp[block.statistic_offset(row)] = present ? maximum[r] + log(total) : C{0};
  }
}

template <typename T>
Status attend(const Context& context, const PermutationAttentionParams& params) {
  using C = Compute<T>;
  if (params.batch == 0 || params.heads == 0 || params.current.length == 0 || params.content.length + params.query.length == 0) {
    return ok_status();
  }
  PermutationProblem<T> problem;
  const Status status = make_permutation_problem(context, Operator::permutation_attention, params, &problem);
  if (!status.ok()) return status;
  if constexpr (sizeof(T) == 2) {
    if (problem.shared.head_dim <= kTensorHeadSize) {
      PermutationTensorProblem<T> tensor;
      const Status made = make_permutation_tensor_problem(context, "permutation_attention", problem, &tensor);
      return made.ok() ? launch_permutation_tensor_forward(context, tensor) : made;
    }
  }
  const int64_t tiles = tiles_of_streams(problem);
  return with_scalar_columns(problem.shared.head_dim, [&](auto tag) {
    constexpr int kColumns = decltype(tag)::value;
    return launch_tiles(context, problem, tiles * params.batch * params.heads, scalar_shared_bytes<C>(kColumns, 1),
                        permutation_scalar_forward<T, kColumns>, problem, static_cast<int>(tiles));
  });
}

}  // namespace

Status permutation_attention(const Context& context, const void* block) {
  PermutationAttentionParams params = *static_cast<const PermutationAttentionParams*>(block);
  const Status status = unroll_ring(context, Operator::permutation_attention, params.dtype, params.batch, params.heads * params.head_dim,
                                    &params.memory);
  if (!status.ok()) return status;
  return with_float_type(params.dtype, [&](auto tag) { return attend<typename decltype(tag)::Type>(context, params); });
}

}  // namespace xlformers::cuda
