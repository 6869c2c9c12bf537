// XLNet's attention on the tensor cores, forward: bf16 and fp16, sums and statistics in fp32.
#pragma once

#include "cuda/permutation_tensor.cuh"

namespace xlformers::cuda {

// A block: kRows rows of a stream, of one batch row and head. It walks over all keys in steps of kKeys, double-buffered by cp.async; a warp
// passes over steps that none of its rows sees. Where a row sees nothing at all, the block walks once more, and passes over nothing.
//
// FLOPs: 6 * head_dim a score (rows that say where they stand: 4 * head_dim, and 2 * head_dim for each of span / kKeys + 2 chunks). Bytes
// from device memory: operands and results once (keys, values and positions again by block, from L2).
// Prediction, H100: content stream of XLNet-large, B32 H16 T512 d64, bf16: 134M scores, 51.5 GFLOP, 340 us at 150 TFLOP/s.
template <typename T, int D, bool kConsecutive, bool kDropout>
__global__ void __launch_bounds__(PermutationTensorTile<D>::kThreads, 2)
    permutation_tensor_forward(const PermutationTensorProblem<T> tensor, const PermutationStream<T> stream) {
  using Block = PermutationTensorBlock<T, D, kConsecutive>;
  using Rows = typename Block::Rows;
  constexpr int kRows = Block::kRows, kKeys = Block::kKeys, kKeyTiles = Block::kKeyTiles;
  XL_DYNAMIC_SHARED(shared_bytes);
  XL_SHARED(rows, Rows);
  const typename Block::Shared shared(shared_bytes);
  const int tiles = (stream.length + kRows - 1) / kRows;
  const int pair = static_cast<int>(blockIdx.x) / tiles;
  Block block(tensor, stream, shared, rows, pair, static_cast<int>(blockIdx.x) % tiles);
  block.load_queries();
  const int keys = block.keys();

  float out[D / 8][4];
  float maximum[2], sum[2];
  bool blind = false;
  do {
    const bool all_keys = blind;
#pragma unroll
    for (int n = 0; n < D / 8; ++n) out[n][0] = out[n][1] = out[n][2] = out[n][3] = 0;
    maximum[0] = maximum[1] = static_cast<float>(kHiddenScore), sum[0] = sum[1] = 0;
    block.begin();
    bool active = false;
    for (int key0 = 0, stage = 0; key0 < keys; key0 += kKeys, stage ^= 1) {
      block.begin_step(key0, stage);
      const uint32_t seen = block.seen(key0, stage);
      const bool follows = active;
      active = block.has_rows() && (all_keys || __any_sync(0xFFFFFFFFu, seen != 0));
      if (active) {
        typename Block::Scores scores = {};
        block.add_scores(key0, stage, follows, scores);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          float top = maximum[half];
#pragma unroll
          for (int n = 0; n < kKeyTiles; ++n) {
#pragma unroll
            for (int e = 0; e < 2; ++e) {
              float& score = scores[n][2 * half + e];
              score = block.exponent(score, half, n, e, stage);
              if ((seen >> (8 * half + 2 * n + e) & 1u) == 0) score = static_cast<float>(kHiddenScore);
              top = fmaxf(top, score);
            }
          }
          top = quad_max(top);
          const float correction = exp2_approx(maximum[half] - top);
          maximum[half] = top;
          float row_sum = 0;
#pragma unroll
          for (int n = 0; n < kKeyTiles; ++n) {
#pragma unroll
            for (int e = 0; e < 2; ++e) {
              // A row that sees nothing gives keys the same part, but not what lies behind the last.
              float& p = scores[n][2 * half + e];
              p = key0 + block.column(n, e) < keys ? exp2_approx(p - top) : 0.0f;
              row_sum += p;
            }
          }
          sum[half] = sum[half] * correction + row_sum;
          // Once a row has met its largest score, nothing needs to be scaled.
          if (__any_sync(0xFFFFFFFFu, correction != 1.0f)) {
#pragma unroll
            for (int n = 0; n < D / 8; ++n) out[n][2 * half] *= correction, out[n][2 * half + 1] *= correction;
          }
          if constexpr (kDropout) {
            const uint32_t kept = kept_bits(stream.dropout, pair, rows.row[block.row(half)], key0);
#pragma unroll
            for (int n = 0; n < kKeyTiles; ++n) {
#pragma unroll
              for (int e = 0; e < 2; ++e) {
                if ((kept >> (2 * n + e) & 1u) == 0) scores[n][2 * half + e] = 0;
              }
            }
          }
        }
#pragma unroll
        for (int k = 0; k < kKeys / 16; ++k) {
          uint32_t a[4];
          pack_left<T>(scores[2 * k], scores[2 * k + 1], a);
          add_columns<D>(a, block.value_tile(stage) + 16 * k * Block::kStride, out);
        }
      }
      block.end_step();
    }
    cp_async_wait<0>();
    blind = false;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      blind = blind || (rows.present(block.row(half)) && maximum[half] < static_cast<float>(kBlind));
    }
    blind = __syncthreads_or(blind && !all_keys) != 0;
  } while (blind);

  const float factor = block.head.head_scale() * (kDropout ? static_cast<float>(stream.dropout.scale) : 1.0f);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int i = block.row(half), row = rows.row[i];
    const float total = quad_sum(sum[half]);
    if (row < 0) continue;
    const bool present = rows.present(i);
    if (lane_index() % 4 == 0) {
      stream.log_sum_exp[static_cast<int64_t>(pair) * stream.length + row] = present ? (maximum[half] + log2f(total)) / kLog2E : 0.0f;
    }
    T* const to = stream.out + ((static_cast<int64_t>(block.head.batch) * stream.length + row) * block.operands.heads + block.head.head) *
                                   tensor.head_dim;
    const float each = present ? factor / total : 0.0f;
#pragma unroll
    for (int n = 0; n < D / 8; ++n) {
      store_pair(to, block.column(n, 0), tensor.head_dim, tensor.head_dim % 2 == 0, out[n][2 * half] * each, out[n][2 * half + 1] * each);
    }
  }
}

// A block a tile of rows of the stream.
template <typename T, int D, bool kConsecutive>
Status launch_tensor_stream(const Context& context, const PermutationTensorProblem<T>& tensor, const PermutationStream<T>& stream) {
  using Tile = PermutationTensorTile<D>;
  const RelativeProblem<T>& operands = tensor.problem.shared;
  const int64_t blocks = static_cast<int64_t>(operands.batch) * operands.heads * ((stream.length + Tile::kRows - 1) / Tile::kRows);
  if (blocks == 0) return ok_status();
  if (blocks > INT32_MAX) return make_status(StatusCode::unsupported, "attention of %lld tiles", static_cast<long long>(blocks));
  const LaunchShape shape = {"permutation_attention", dim3(static_cast<unsigned>(blocks)), dim3(Tile::kThreads),
                             PermutationTensorShared<T, D>::bytes(kConsecutive), context.stream};
  return stream.dropout.active() ? launch(shape, permutation_tensor_forward<T, D, kConsecutive, true>, tensor, stream)
                                 : launch(shape, permutation_tensor_forward<T, D, kConsecutive, false>, tensor, stream);
}

template <typename T, int D>
Status launch_tensor_streams(const Context& context, const PermutationTensorProblem<T>& tensor) {
  Status status = ok_status();
  for (const PermutationStream<T>* stream : {&tensor.problem.content, &tensor.problem.query}) {
    if (!status.ok()) break;
    status = stream->slots == nullptr ? launch_tensor_stream<T, D, true>(context, tensor, *stream)
                                      : launch_tensor_stream<T, D, false>(context, tensor, *stream);
  }
  return status;
}

template <typename T>
Status launch_permutation_tensor_forward(const Context& context, const PermutationTensorProblem<T>& tensor) {
  return tensor.head_dim <= 64 ? launch_tensor_streams<T, 64>(context, tensor) : launch_tensor_streams<T, 128>(context, tensor);
}

}  // namespace xlformers::cuda
