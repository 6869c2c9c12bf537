// Gradients of keys and values on the tensor cores.
#pragma once

#include "cuda/permutation_tensor_gradient.cuh"

namespace xlformers::cuda {

template <typename T, int D>
struct KeyGradientShared : PermutationTensorShared<T, D> {
  using Base = PermutationTensorShared<T, D>;
  using Tile = PermutationTensorTile<D>;
  static constexpr int kOwned = 2 * Tile::kKeys;      // keys of a block: the two stages
  static constexpr int kTileStride = kOwned + 8;
  T* queries;        // [kRows][kStride]
  T* out_gradients;  // likewise
  T* score_gradients;  // dS [kRows][kTileStride]
  T* probabilities;    // dropout(P)

  static constexpr size_t kBaseBytes = Base::bytes(false);
  static constexpr size_t kBytes =
      kBaseBytes + (2 * Tile::kRows * Tile::kStride + 2 * Tile::kRows * kTileStride) * sizeof(T);

  __device__ explicit KeyGradientShared(unsigned char* memory) : Base(memory) {
    queries = reinterpret_cast<T*>(memory + kBaseBytes);
    out_gradients = queries + Tile::kRows * Tile::kStride;
    score_gradients = out_gradients + Tile::kRows * Tile::kStride;
    probabilities = score_gradients + Tile::kRows * kTileStride;
  }
};

// What a block of keys gathers from the rows of a stream.
template <typename T, int D>
struct KeyGradientSums {
  float keys[D / 8][4], values[D / 8][4];  // dS^T Q and dropout(P)^T dO of the warp's 16 keys
  float totals[4];                         // of dS by key
};

// Adds the rows of a stream. The block's keys lie in both stages.
template <bool kConsecutive, typename T, int D>
__device__ void add_stream(const PermutationTensorProblem<T>& tensor, const TensorGradientStream<T>& gradient,
                           const KeyGradientShared<T, D>& shared, TileRows<T, PermutationTensorTile<D>::kRows>& rows, int pair, int first_key,
                           KeyGradientSums<T, D>& sums) {
  using Block = PermutationTensorGradientBlock<T, D, kConsecutive, false>;
  constexpr int kRows = Block::kRows, kKeys = Block::kKeys, kKeyTiles = Block::kKeyTiles, kStride = Block::kStride;
  constexpr int kTileStride = KeyGradientShared<T, D>::kTileStride;
  const uint32_t ones = pack<T>(1.0f, 1.0f);
  for (int tile = 0; tile * kRows < gradient.stream.length; ++tile) {
    __syncthreads();
    Block block(tensor, gradient, shared, rows, pair, tile, shared.queries, shared.out_gradients);
    block.template begin_positions<true>(first_key, kRows + 2 * kKeys);
    const auto copy = [&](const auto& row, T* to) {
      copy_tile<D, Block::kThreads, true>(kRows, block.operands.head_dim, block.operands.query.first, row, to);
    };
    copy([&](int i) { return rows.query[i]; }, shared.queries);
    copy([&](int i) { return block.out_gradient(gradient, i); }, shared.out_gradients);
    cp_async_commit();
    cp_async_wait<0>();
    __syncthreads();
    bool active = false, any = false;
#pragma unroll 1
    for (int stage = 0; stage < 2; ++stage) {
      const int key0 = first_key + stage * kKeys;
      const uint32_t used = block.used(key0, stage);
      const bool follows = active;
      active = __any_sync(0xFFFFFFFFu, used != 0);
      any = any || active;
      typename Block::Scores probabilities = {}, gradients = {};
      if (active) block.make(key0, stage, follows, used, probabilities, gradients);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
#pragma unroll
        for (int n = 0; n < kKeyTiles; ++n) {
          const int at = block.row(half) * kTileStride + stage * kKeys + block.column(n, 0);
          *reinterpret_cast<uint32_t*>(shared.score_gradients + at) = pack<T>(gradients[n][2 * half], gradients[n][2 * half + 1]);
          *reinterpret_cast<uint32_t*>(shared.probabilities + at) = pack<T>(probabilities[n][2 * half], probabilities[n][2 * half + 1]);
        }
      }
      block.end_step();
    }
    if (__syncthreads_or(any) == 0) continue;
#pragma unroll 1
    for (int k = 0; k < kRows / 16; ++k) {
      uint32_t a[4];
      load_left_transposed(shared.score_gradients + 16 * k * kTileStride, kTileStride, block.own, a);
      add_columns<D>(a, shared.queries + 16 * k * kStride, sums.keys);
      mma_m16n8k16<T>(sums.totals, a, ones, ones);
      load_left_transposed(shared.probabilities + 16 * k * kTileStride, kTileStride, block.own, a);
      add_columns<D>(a, shared.out_gradients + 16 * k * kStride, sums.values);
    }
  }
}

// A block: 64 keys of one batch row and head, 16 of them by warp where they are rows of a product; it walks over the rows of both streams,
// 16 by warp where those are. Tiles that see none of the keys end early. Writes dK, dV and the sums of dS over rows.
//
// FLOPs: 10.5 * head_dim a score (rows that say where they stand: 8.5 * head_dim, and 2 * head_dim for each chunk). Bytes: keys and values
// once, rows and positions once per block, from L2. Prediction, H100: XLNet-large, B32 H16 T512 d64, content stream (134M scores): 90
// GFLOP, 600 us at 150 TFLOP/s.
template <typename T, int D>
__global__ void __launch_bounds__(PermutationTensorTile<D>::kThreads, 2)
    permutation_tensor_key_gradient(const PermutationTensorProblem<T> tensor, const TensorGradientStream<T> content,
                                    const TensorGradientStream<T> query, const KeyGradientRows<T> to) {
  using Tile = PermutationTensorTile<D>;
  using Rows = TileRows<T, Tile::kRows>;
  constexpr int kOwned = KeyGradientShared<T, D>::kOwned;
  static_assert(kOwned == 16 * Tile::kWarps, "16 keys a warp");
  XL_DYNAMIC_SHARED(shared_bytes);
  XL_SHARED(rows, Rows);
  const KeyGradientShared<T, D> shared(shared_bytes);
  const RelativeProblem<T>& operands = tensor.problem.shared;
  const int keys = operands.band.keys, tiles = (keys + kOwned - 1) / kOwned;
  const int pair = static_cast<int>(blockIdx.x) / tiles, first_key = static_cast<int>(blockIdx.x) % tiles * kOwned;
  const RelativeHead<T> head(operands, pair / operands.heads, pair % operands.heads, 0);
  for (int stage = 0; stage < 2; ++stage) load_key_stage<D>(tensor, head, first_key + stage * Tile::kKeys, stage, shared);

  KeyGradientSums<T, D> sums = {};
#pragma unroll 1
  for (int stream = 0; stream < 2; ++stream) {
    const bool second = stream == 1;
    const TensorGradientStream<T>& gradient = second ? query : content;
    if (gradient.stream.slots == nullptr) {
      add_stream<true, T, D>(tensor, gradient, shared, rows, pair, first_key, sums);
    } else {
      add_stream<false, T, D>(tensor, gradient, shared, rows, pair, first_key, sums);
    }
  }
  cp_async_wait<0>();

  // dK = scale (dS^T Q + (sums of dS) u)
  const int columns = tensor.head_dim;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int key = first_key + warp_index() * 16 + 8 * half + fragment_row();
    if (key >= keys) continue;
    const float total = sums.totals[2 * half];
    if (lane_index() % 4 == 0) to.key_sums[static_cast<int64_t>(pair) * keys + key] = total;
#pragma unroll
    for (int n = 0; n < D / 8; ++n) {
      float values[2];
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int column = 8 * n + fragment_column() + e;
        const bool biased = operands.content_bias != nullptr && column < columns;
        const float u = biased ? to_float(operands.content_bias[head.head * columns + column]) : 0.0f;
        values[e] = operands.scale * (sums.keys[n][2 * half + e] + total * u);
      }
      store_pair_anywhere(to.keys.row(head.batch, key, head.head * columns), 8 * n + fragment_column(), columns, values[0], values[1]);
      store_pair_anywhere(to.values.row(head.batch, key, head.head * columns), 8 * n + fragment_column(), columns, sums.values[n][2 * half],
                          sums.values[n][2 * half + 1]);
    }
  }
}

template <typename T>
Status launch_tensor_key_gradient(const Context& context, const PermutationTensorProblem<T>& tensor, const TensorGradientStream<T>& content,
                                  const TensorGradientStream<T>& query, const KeyGradientRows<T>& to) {
  constexpr int D = kTensorGradientHeadSize, kOwned = KeyGradientShared<T, D>::kOwned;
  const RelativeProblem<T>& operands = tensor.problem.shared;
  const int64_t blocks = static_cast<int64_t>(operands.batch) * operands.heads * ((operands.band.keys + kOwned - 1) / kOwned);
  if (blocks == 0) return ok_status();
  if (blocks > INT32_MAX) return make_status(StatusCode::unsupported, "attention of %lld tiles", static_cast<long long>(blocks));
  return launch({"permutation_attention_gradient", dim3(static_cast<unsigned>(blocks)), dim3(PermutationTensorTile<D>::kThreads),
                 KeyGradientShared<T, D>::kBytes, context.stream},
                permutation_tensor_key_gradient<T, D>, tensor, content, query, to);
}

}  // namespace xlformers::cuda
