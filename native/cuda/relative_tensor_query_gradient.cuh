// Gradient of queries on the tensor cores.
#pragma once

#include "cuda/relative_tensor_gradient.cuh"

namespace xlformers::cuda {

template <int D>
struct QueryGradientTile {
  static constexpr int kWarps = D <= 128 ? 4 : 2;
  static constexpr int kThreads = 32 * kWarps;
  static constexpr int kQueries = 16 * kWarps;
  static constexpr int kKeys = D <= 64 ? 32 : 16;  // by step
  static constexpr int kKeyTiles = kKeys / 8;
  static constexpr int kSteps = D / 16;
  static constexpr int kStride = head_stride(D);
  static constexpr int kStages = D <= 128 ? 2 : 1;
  static constexpr bool kInRegisters = D <= 128;  // queries and gradients of out
  static constexpr int kRing = kQueries + kStages * kKeys;
};

template <typename T, int D>
struct QueryGradientShared {
  using Tile = QueryGradientTile<D>;
  T* keys;    // [kStages][kKeys][kStride]
  T* values;  // likewise
  T* ring;    // positions [kRing][kStride], as in the forward kernel
  T* queries;
  T* out_gradients;       // [kQueries][kStride] where registers cannot hold them
  float* position_terms;  // [kRing]
  float* key_terms;       // [kStages][kKeys]

  static constexpr int kStage = Tile::kKeys * Tile::kStride;
  static constexpr int kQueryElements = Tile::kInRegisters ? 0 : Tile::kQueries * Tile::kStride;
  static constexpr size_t kElements = 2 * Tile::kStages * kStage + Tile::kRing * Tile::kStride + 2 * kQueryElements;
  static constexpr size_t kBytes = kElements * sizeof(T) + (Tile::kRing + Tile::kStages * Tile::kKeys) * sizeof(float);

  __device__ explicit QueryGradientShared(unsigned char* memory) {
    keys = reinterpret_cast<T*>(memory);
    values = keys + Tile::kStages * kStage;
    ring = values + Tile::kStages * kStage;
    queries = ring + Tile::kRing * Tile::kStride;
    out_gradients = queries + kQueryElements;
    position_terms = reinterpret_cast<float*>(keys + kElements);
    key_terms = position_terms + Tile::kRing;
  }
};

// A block: kQueries queries of one batch row and head, 16 by warp, over the keys that they see, as in the forward kernel. dU, which is dS
// along diagonals, comes from dS by the inverse shift in registers; its last 16 columns wait for the next step.
//
// FLOPs: 10 * head_dim a score. Bytes: operands once per block of queries; dQ once.
// Prediction, H100: B32 H16 T384 M384 d64 (151M scores): 97 GFLOP, 390 us at 250 TFLOP/s.
template <typename T, int D>
__global__ void __launch_bounds__(QueryGradientTile<D>::kThreads, D <= 64 ? 2 : 1)
    relative_tensor_query_gradient(const TensorGradientProblem<T> problem) {
  using Tile = QueryGradientTile<D>;
  using Shared = QueryGradientShared<T, D>;
  constexpr int kKeyTiles = Tile::kKeyTiles, kSteps = Tile::kSteps, kKeys = Tile::kKeys, kQueries = Tile::kQueries;
  constexpr int kStride = Tile::kStride, kRing = Tile::kRing, kThreads = Tile::kThreads;
  XL_DYNAMIC_SHARED(shared_bytes);
  const Shared shared(shared_bytes);
  const RelativeProblem<T>& rows = problem.tensor.rows;
  const int tiles = (rows.query_length + kQueries - 1) / kQueries;
  const int pair = static_cast<int>(blockIdx.x) / tiles;
  const RelativeHead<T> head(rows, pair / rows.heads, pair % rows.heads);
  const int query0 = (tiles - 1 - static_cast<int>(blockIdx.x) % tiles) * kQueries;
  const int last_query = min(query0 + kQueries, rows.query_length) - 1;
  const int key_begin = head.first_key(query0) / kKeys * kKeys;
  const int key_end = head.end_key(last_query);
  const int warp_query = query0 + warp_index() * 16;
  const int warp_last = min(warp_query + 16, rows.query_length) - 1;
  const int first_position = head.position_row(query0 + kQueries - 1, key_begin);

  const auto load_positions = [&](int z, int count) {
    copy_diagonals<D, kThreads, kRing>(head, first_position, z, count, problem.tensor.position_terms, shared.ring, shared.position_terms);
  };
  const auto load_keys = [&](int key, int stage) {
    copy_keys<D, kThreads>(head, key, kKeys, shared.keys + stage * Shared::kStage, shared.values + stage * Shared::kStage);
    for (int j = static_cast<int>(threadIdx.x); j < kKeys; j += kThreads) {
      copy_term(problem.key_terms, static_cast<int64_t>(pair) * rows.band.keys, key + j, rows.band.keys,
                shared.key_terms + stage * kKeys + j);
    }
  };

  load_keys(key_begin, 0);
  load_positions(0, kQueries + kKeys);
  if constexpr (!Tile::kInRegisters) {
    copy_tile<D, kThreads>(
        kQueries, rows.head_dim, rows.query.first, [&](int i) { return head.query(query0 + i); }, shared.queries);
    copy_tile<D, kThreads>(
        kQueries, rows.head_dim, rows.query.first, [&](int i) { return out_gradient_row(problem, head, query0 + i); },
        shared.out_gradients);
  }
  cp_async_commit();

  constexpr int kHeld = Tile::kInRegisters ? kSteps : 1;
  uint32_t query_fragments[kHeld][4], gradient_fragments[kHeld][4];
  if constexpr (Tile::kInRegisters) {
#pragma unroll
    for (int k = 0; k < kSteps; ++k) {
      load_left_global<T>([&](int i) { return head.query(warp_query + i); }, k, rows.head_dim, query_fragments[k]);
      load_left_global<T>([&](int i) { return out_gradient_row(problem, head, warp_query + i); }, k, rows.head_dim, gradient_fragments[k]);
    }
  }
  const auto multiply = [&](const uint32_t(&left)[kHeld][4], const T* shared_left, const T* right, float(&to)[4]) {
    multiply_rows<D>(left, shared_left + warp_index() * 16 * kStride, right, to);
  };

  const Skew skew;
  const float scale = rows.scale * kLogOfE;
  const float value_scale = head.head_scale() * static_cast<float>(rows.dropout.scale);
  RowStatistic statistic[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    statistic[half] = row_statistic(head, problem.gradient, warp_query + 8 * half + fragment_row());
  }
  float sums[D / 8][4] = {};
  float diagonals[kKeyTiles + 2][4];             // U; the first two come from the step before
  float score_gradients[kKeyTiles + 2][4] = {};  // dS, likewise
  bool started = false, active = false;
  int window = (Tile::kWarps - warp_index()) * 16 - 16;  // modulo kRing

  const auto ring_row = [&](int x) {
    const int row = window + x;
    return row >= kRing ? row - kRing : row;
  };
  const auto position_tile = [&](int n) {
    const int row = ring_row(8 * n);
    float(&u)[4] = diagonals[n];
    u[0] = u[2] = shared.position_terms[row + fragment_column()];
    u[1] = u[3] = shared.position_terms[row + fragment_column() + 1];
    multiply(query_fragments, shared.queries, shared.ring + row * kStride, u);
  };
  // sums += dU [16, 16 columns from tile n on] R
  const auto add_diagonals = [&](int n) {
    float low[4], high[4];
    skew.unshift(score_gradients[n], score_gradients[n + 1], score_gradients[n + 2], low);
    skew.unshift(score_gradients[n + 1], score_gradients[n + 2], score_gradients[n + 3], high);
    uint32_t a[4];
    pack_left<T>(low, high, a);
    const T* const positions = shared.ring + ring_row(8 * n) * kStride;
#pragma unroll
    for (int c = 0; c < D / 8; c += 2) {
      uint32_t b[4];
      load_columns<D>(positions, 8 * c, b);
      mma_m16n8k16<T>(sums[c], a, b[0], b[1]);
      mma_m16n8k16<T>(sums[c + 1], a, b[2], b[3]);
    }
  };

  for (int key0 = key_begin, step = 0; key0 < key_end; key0 += kKeys, ++step) {
    const int stage = step % Tile::kStages;
    cp_async_wait<0>();
    __syncthreads();
    if (Tile::kStages == 2 && key0 + kKeys < key_end) {
      load_keys(key0 + kKeys, stage ^ 1);
      load_positions(step * kKeys + kQueries + kKeys, kKeys);
    }
    cp_async_commit();
    const T* const keys = shared.keys + stage * Shared::kStage;
    const T* const values = shared.values + stage * Shared::kStage;
    active = warp_query <= warp_last && key0 + kKeys > head.first_key(warp_query) && key0 < head.end_key(warp_last);
    if (active) {
      if (!started) {
        started = true;
        position_tile(0);
        position_tile(1);
      }
#pragma unroll
      for (int n = 2; n < kKeyTiles + 2; ++n) position_tile(n);
      float scores[kKeyTiles][4];
#pragma unroll
      for (int n = 0; n < kKeyTiles; ++n) {
        skew.shift(diagonals[n], diagonals[n + 1], diagonals[n + 2], scores[n]);
        const float first = shared.key_terms[stage * kKeys + 8 * n + fragment_column()];
        const float second = shared.key_terms[stage * kKeys + 8 * n + fragment_column() + 1];
        scores[n][0] += first, scores[n][1] += second, scores[n][2] += first, scores[n][3] += second;
        multiply(query_fragments, shared.queries, keys + 8 * n * kStride, scores[n]);
        float(&products)[4] = score_gradients[n + 2];
        products[0] = products[1] = products[2] = products[3] = 0;
        multiply(gradient_fragments, shared.out_gradients, values + 8 * n * kStride, products);
      }
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        diagonals[0][e] = diagonals[kKeyTiles][e];
        diagonals[1][e] = diagonals[kKeyTiles + 1][e];
      }
      const bool edge = key0 < head.first_key(warp_last) || key0 + kKeys > head.end_key(warp_query);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int query = warp_query + 8 * half + fragment_row();
        const int begin = edge ? head.first_key(query) - key0 - fragment_column() : -8;
        const int end = edge ? head.end_key(query) - key0 - fragment_column() : kKeys;
        const uint32_t kept = rows.dropout.active() ? kept_bits(rows.dropout, pair, query, key0) : ~0u;
#pragma unroll
        for (int n = 0; n < kKeyTiles; ++n) {
#pragma unroll
          for (int e = 0; e < 2; ++e) {
            float p = exp2_approx(scores[n][2 * half + e] * scale - statistic[half].shift);
            if (8 * n + e < begin || 8 * n + e >= end) p = 0;
            float& product = score_gradients[n + 2][2 * half + e];
            const float factor = (kept >> (2 * n + e) & 1u) != 0 ? value_scale : 0.0f;
            product = p * (product * factor - statistic[half].delta);
          }
        }
      }
#pragma unroll
      for (int k = 0; k < kKeys / 16; ++k) {
        uint32_t a[4];
        pack_left<T>(score_gradients[2 * k + 2], score_gradients[2 * k + 3], a);
#pragma unroll
        for (int c = 0; c < D / 8; c += 2) {
          uint32_t b[4];
          load_columns<D>(keys + 16 * k * kStride, 8 * c, b);
          mma_m16n8k16<T>(sums[c], a, b[0], b[1]);
          mma_m16n8k16<T>(sums[c + 1], a, b[2], b[3]);
        }
      }
#pragma unroll
      for (int n = 0; n < kKeyTiles; n += 2) add_diagonals(n);
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        score_gradients[0][e] = score_gradients[kKeyTiles][e];
        score_gradients[1][e] = score_gradients[kKeyTiles + 1][e];
      }
    }
    window += kKeys;
    if (window >= kRing) window -= kRing;
    if (Tile::kStages == 1 && key0 + kKeys < key_end) {
      __syncthreads();
      load_keys(key0 + kKeys, 0);
      load_positions(step * kKeys + kQueries + kKeys, kKeys);
      cp_async_commit();
    }
  }
  cp_async_wait<0>();
  // What the last step left over. A warp whose keys ended before the block's has nothing: its band ends at a diagonal, and all of the
  // columns that wait lie beyond it.
  if (active) {
#pragma unroll
    for (int n = 2; n < kKeyTiles + 2; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) score_gradients[n][e] = 0;
    }
    add_diagonals(0);
  }

#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int query = warp_query + 8 * half + fragment_row();
    if (query >= rows.query_length) continue;
    T* const to = problem.gradient.query_gradient.row(head.batch, query, head.head * problem.tensor.head_dim);
#pragma unroll
    for (int n = 0; n < D / 8; ++n) {
      store_pair_anywhere(to, 8 * n + fragment_column(), problem.tensor.head_dim, sums[n][2 * half] * rows.scale,
                          sums[n][2 * half + 1] * rows.scale);
    }
  }
}

}  // namespace xlformers::cuda
