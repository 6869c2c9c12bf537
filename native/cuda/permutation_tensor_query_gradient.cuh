// Gradient of the queries of a stream on the tensor cores, and that of positions beside it.
#pragma once

#include "cuda/permutation_position_sums.cuh"
#include "cuda/permutation_tensor_gradient.cuh"

namespace xlformers::cuda {

template <typename T, int D, bool kConsecutive>
struct StreamGradientShared : PermutationTensorShared<T, D> {
  using Base = PermutationTensorShared<T, D>;
  using Tile = PermutationTensorTile<D>;
  using Positions = PositionSums<T, D, kConsecutive>;
  T* queries;          // of the tile [kRows][kStride]
  T* score_gradients;  // dS for dR

  static constexpr size_t kBaseBytes = Base::bytes(kConsecutive);
  static constexpr size_t kBytes = kBaseBytes + (Tile::kRows * Tile::kStride + Positions::kElements) * sizeof(T);

  __device__ explicit StreamGradientShared(unsigned char* memory) : Base(memory) {
    queries = reinterpret_cast<T*>(memory + kBaseBytes);
    score_gradients = queries + Tile::kRows * Tile::kStride;
  }
};

// dQ of a tile of rows; adds its part of dR. dU, which is dS along diagonals, comes from dS by the inverse shift in registers, and its last
// 16 columns wait for the next step; rows that say where they stand put their dS into the warp's strip, by distance, chunk for chunk.
template <typename T, int D, bool kConsecutive>
__device__ __forceinline__ void differentiate_rows(const PermutationTensorProblem<T>& tensor, const TensorGradientStream<T>& gradient,
                                                   const StreamGradientShared<T, D, kConsecutive>& shared,
                                                   const PositionSums<T, D, kConsecutive>& positions,
                                                   TileRows<T, PermutationTensorTile<D>::kRows>& rows, int pair, int tile) {
  using Block = PermutationTensorGradientBlock<T, D, kConsecutive, true>;
  constexpr int kRows = Block::kRows, kKeys = Block::kKeys, kKeyTiles = Block::kKeyTiles, kStrip = Block::Tile::kStripStride;
  constexpr int kWindow = PositionSums<T, D, kConsecutive>::kWindow;
  const PermutationStream<T>& stream = gradient.stream;
  Block block(tensor, gradient, shared, rows, pair, tile);
  const RelativeProblem<T>& operands = block.operands;
  const RelativeHead<T>& head = block.head;
  const int keys = block.keys();

  float sums[D / 8][4] = {};
  float segment_sums[2][2] = {};             // [half][differ], of the lane's columns
  float score_gradients[kKeyTiles + 2][4] = {};  // dS; the first two tiles come from the step before
  // sums += dU [16, 16 columns from tile n on] R, for consecutive rows.
  const auto add_diagonals = [&](int n) {
    float low[4], high[4];
    block.skew.unshift(score_gradients[n], score_gradients[n + 1], score_gradients[n + 2], low);
    block.skew.unshift(score_gradients[n + 1], score_gradients[n + 2], score_gradients[n + 3], high);
    uint32_t a[4];
    pack_left<T>(low, high, a);
    add_columns<D>(a, shared.ring + block.ring_row(8 * n) * Block::kStride, sums);
  };
  // What a step leaves: columns of dU that no later step adds to.
  const auto finish_diagonals = [&] {
#pragma unroll
    for (int n = 2; n < kKeyTiles + 2; ++n) score_gradients[n][0] = score_gradients[n][1] = score_gradients[n][2] = score_gradients[n][3] = 0;
    add_diagonals(0);
#pragma unroll
    for (int n = 0; n < 2; ++n) score_gradients[n][0] = score_gradients[n][1] = score_gradients[n][2] = score_gradients[n][3] = 0;
  };
  const auto add_chunk = [&](int key0, int nearest) {
    float* const strip = block.strip();
    for (int x = lane_index(); x < 16 * kStrip; x += 32) strip[x] = 0;
    __syncwarp();
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int first = block.chunk_place(half, key0, nearest);
#pragma unroll
      for (int n = 0; n < kKeyTiles; ++n) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const int x = first - 8 * n - e;
          if (x >= 0 && x < kKeys) strip[(fragment_row() + 8 * half) * kStrip + x] = score_gradients[n + 2][2 * half + e];
        }
      }
    }
    __syncwarp();
#pragma unroll
    for (int k = 0; k < kKeys / 16; ++k) {
      uint32_t a[4];
#pragma unroll
      for (int x = 0; x < 4; ++x) {
        const float* const from = strip + (fragment_row() + x % 2 * 8) * kStrip + 16 * k + x / 2 * 8 + fragment_column();
        a[x] = pack<T>(from[0], from[1]);
      }
      add_columns<D>(a, block.chunk() + 16 * k * Block::kStride, sums);
    }
  };

  int first_position = INT32_MAX, last_position = -1;  // of the tile's rows that stand somewhere
  for (int i = 0; i < kRows; ++i) {
    if (rows.present(i)) first_position = min(first_position, rows.position[i]), last_position = max(last_position, rows.position[i]);
  }
  copy_tile<D, Block::kThreads>(kRows, operands.head_dim, operands.query.first, [&](int i) { return rows.query[i]; }, shared.queries);
  block.begin();
  bool active = false, any = false;  // in this step; in this window
  for (int key0 = 0, stage = 0; key0 < keys; key0 += kKeys, stage ^= 1) {
    block.begin_step(key0, stage);
    const int place = key0 % kWindow;
    if (place == 0) positions.begin_window(block.own);
    const uint32_t used = block.used(key0, stage);
    const bool follows = active;
    active = __any_sync(0xFFFFFFFFu, used != 0);
    if constexpr (kConsecutive) {
      if (follows && !active) finish_diagonals();
    }
    if (active) {
      typename Block::Scores probabilities;
      block.make(key0, stage, follows, used, probabilities, score_gradients + 2);
      any = true;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
#pragma unroll
        for (int n = 0; n < kKeyTiles; ++n) {
          positions.put(block.row(half), place + block.column(n, 0), score_gradients[n + 2][2 * half], score_gradients[n + 2][2 * half + 1]);
        }
      }
      if (block.problem.segment_embedding != nullptr) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
#pragma unroll
          for (int n = 0; n < kKeyTiles; ++n) {
#pragma unroll
            for (int e = 0; e < 2; ++e) {
              const bool differ = block.segments_differ(half, n, e, stage);
              const float each = score_gradients[n + 2][2 * half + e];
              segment_sums[half][0] += differ ? 0.0f : each;
              segment_sums[half][1] += differ ? each : 0.0f;
            }
          }
        }
      }
#pragma unroll
      for (int k = 0; k < kKeys / 16; ++k) {
        uint32_t a[4];
        pack_left<T>(score_gradients[2 * k + 2], score_gradients[2 * k + 3], a);
        add_columns<D>(a, block.key_tile(stage) + 16 * k * Block::kStride, sums);
      }
      if constexpr (kConsecutive) {
#pragma unroll
        for (int n = 0; n < kKeyTiles; n += 2) add_diagonals(n);
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          score_gradients[0][e] = score_gradients[kKeyTiles][e];
          score_gradients[1][e] = score_gradients[kKeyTiles + 1][e];
        }
      } else {
        block.for_each_chunk(key0, [&](int nearest) { add_chunk(key0, nearest); });
      }
    }
    block.end_step();
    if (place + kKeys == kWindow || key0 + kKeys >= keys) {
      if (__syncthreads_or(any) != 0) positions.add(block, key0 - place, first_position, last_position);
      any = false;
    }
  }
  cp_async_wait<0>();
  if constexpr (kConsecutive) {
    if (active) finish_diagonals();
  }

#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = rows.row[block.row(half)];
    const float same = quad_sum(segment_sums[half][0]), other = quad_sum(segment_sums[half][1]);
    if (row < 0) continue;
    const bool segments = block.problem.segment_embedding != nullptr;
    const int columns = tensor.head_dim;
    const T* const embedding = block.problem.segment_embedding + head.head * columns;
    if (segments && lane_index() % 4 == 0) {
      float* const to = gradient.segment_sums + 2 * (static_cast<int64_t>(pair) * stream.length + row);
      to[0] = same, to[1] = other;
    }
    T* const to = gradient.query_gradient.row(head.batch, row, head.head * columns);
#pragma unroll
    for (int n = 0; n < D / 8; ++n) {
      float values[2];
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int column = block.column(n, e);
        values[e] = sums[n][2 * half + e];
        if (segments && column < columns) {
          values[e] += same * to_float(embedding[column]) + other * to_float(embedding[operands.heads * columns + column]);
        }
      }
      store_pair_anywhere(to, block.column(n, 0), columns, values[0] * operands.scale, values[1] * operands.scale);
    }
  }
}

// A block: a part of the tiles of rows of one batch row and head, with sums of dR of their own.
//
// FLOPs: 12.25 * head_dim a score (rows that say where they stand: 6 * head_dim, 4 * head_dim for each chunk, and what PositionSums says).
// Bytes: operands once per tile; dQ, the sums of dS by segment and those of dR once, 4 * head_dim a batch row, head and position.
// Prediction, H100: content stream of XLNet-large, B32 H16 T512 d64 (134M scores): 105 GFLOP, 420 us at 250 TFLOP/s.
template <typename T, int D, bool kConsecutive>
__global__ void __launch_bounds__(PermutationTensorTile<D>::kThreads, 2)
    permutation_tensor_query_gradient(const PermutationTensorProblem<T> tensor, const TensorGradientStream<T> gradient,
                                      const PositionPartials to) {
  using Tile = PermutationTensorTile<D>;
  using Rows = TileRows<T, Tile::kRows>;
  using Shared = StreamGradientShared<T, D, kConsecutive>;
  XL_DYNAMIC_SHARED(shared_bytes);
  XL_SHARED(rows, Rows);
  const Shared shared(shared_bytes);
  const RelativeProblem<T>& operands = tensor.problem.shared;
  const int pair = static_cast<int>(blockIdx.x) / to.chunks, chunk = static_cast<int>(blockIdx.x) % to.chunks;
  const typename Shared::Positions positions(to, chunk, pair / operands.heads, operands, pair % operands.heads, shared.score_gradients,
                                             shared.queries);
  if (to.begin) positions.clear();
  const int64_t tiles = (gradient.stream.length + Tile::kRows - 1) / Tile::kRows;
  const int end = static_cast<int>(tiles * (chunk + 1) / to.chunks);
  for (int tile = static_cast<int>(tiles * chunk / to.chunks); tile < end; ++tile) {
    __syncthreads();
    differentiate_rows<T, D, kConsecutive>(tensor, gradient, shared, positions, rows, pair, tile);
  }
}

template <typename T>
Status launch_tensor_query_gradient(const Context& context, const PermutationTensorProblem<T>& tensor, const TensorGradientStream<T>& gradient,
                                    const PositionPartials& positions) {
  constexpr int D = kTensorGradientHeadSize;
  const RelativeProblem<T>& operands = tensor.problem.shared;
  const int64_t blocks = static_cast<int64_t>(operands.batch) * operands.heads * positions.chunks;
  if (blocks == 0) return ok_status();
  if (blocks > INT32_MAX) return make_status(StatusCode::unsupported, "attention of %lld blocks", static_cast<long long>(blocks));
  const auto run = [&](auto tag) {
    constexpr bool kConsecutive = decltype(tag)::value;
    return launch({"permutation_attention_gradient", dim3(static_cast<unsigned>(blocks)), dim3(PermutationTensorTile<D>::kThreads),
                   StreamGradientShared<T, D, kConsecutive>::kBytes, context.stream},
                  permutation_tensor_query_gradient<T, D, kConsecutive>, tensor, gradient, positions);
  };
  return gradient.stream.slots == nullptr ? run(std::true_type{}) : run(std::false_type{});
}

}  // namespace xlformers::cuda
