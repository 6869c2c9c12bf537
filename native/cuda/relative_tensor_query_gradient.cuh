// Gradient of queries on the tensor cores, and that of positions beside it.
#pragma once

#include "cuda/relative_tensor_diagonal_sums.cuh"

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

// kPositions: dR is made as well.
template <typename T, int D, bool kPositions>
struct QueryGradientShared {
  using Tile = QueryGradientTile<D>;
  using Diagonals = std::conditional_t<kPositions, DiagonalSums<T, D, Tile::kWarps>, NoDiagonalSums>;
  T* keys;    // [kStages][kKeys][kStride]
  T* values;  // likewise
  T* ring;    // positions [kRing][kStride], as in the forward kernel
  T* queries;              // [kQueries][kStride] where registers cannot hold them, and for dR
  T* out_gradients;        // likewise
  uint32_t* score_blocks;  // dU for dR
  RowFacts* facts;         // [kQueries], columns being keys, where there are no registers for them
  float* position_terms;   // [kRing]
  float* key_terms;        // [kStages][kKeys]

  static constexpr int kStage = Tile::kKeys * Tile::kStride;
  static constexpr int kQueryElements = Tile::kInRegisters && !kPositions ? 0 : Tile::kQueries * Tile::kStride;
  static constexpr int kBlockWords = Diagonals::kSharedWords;
  static constexpr size_t kElements = 2 * Tile::kStages * kStage + Tile::kRing * Tile::kStride + 2 * kQueryElements;
  static constexpr int kFacts = kPositions || !Tile::kInRegisters ? Tile::kQueries : 0;
  static constexpr size_t kBytes = kElements * sizeof(T) + (kBlockWords + Tile::kRing + Tile::kStages * Tile::kKeys) * sizeof(float) +
                                   kFacts * sizeof(RowFacts);

  __device__ explicit QueryGradientShared(unsigned char* memory) {
    keys = reinterpret_cast<T*>(memory);
    values = keys + Tile::kStages * kStage;
    ring = values + Tile::kStages * kStage;
    queries = ring + Tile::kRing * Tile::kStride;
    out_gradients = queries + kQueryElements;
    score_blocks = reinterpret_cast<uint32_t*>(keys + kElements);
    facts = reinterpret_cast<RowFacts*>(score_blocks + kBlockWords);
    position_terms = reinterpret_cast<float*>(facts + kFacts);
    key_terms = position_terms + Tile::kRing;
  }
};

// dQ of kQueries queries of one batch row and head, 16 by warp, over the keys that they see, as in the forward kernel. dU, which is dS
// along diagonals, comes from dS by the inverse shift in registers; its last 16 columns wait for the next step.
template <typename T, int D, bool kPositions>
__device__ __forceinline__ void differentiate_queries(const TensorGradientProblem<T>& problem, const RelativeHead<T>& head, int query0,
                                                      const QueryGradientShared<T, D, kPositions>& shared,
                                                      typename QueryGradientShared<T, D, kPositions>::Diagonals& diagonal_sums) {
  using Tile = QueryGradientTile<D>;
  using Shared = QueryGradientShared<T, D, kPositions>;
  constexpr int kKeyTiles = Tile::kKeyTiles, kSteps = Tile::kSteps, kKeys = Tile::kKeys, kQueries = Tile::kQueries;
  constexpr int kStride = Tile::kStride, kRing = Tile::kRing, kThreads = Tile::kThreads;
  constexpr bool kOneByOne = kPositions || D > 128;
  const RelativeProblem<T>& rows = problem.tensor.rows;
  const int pair = head.pair();
  const int last_query = min(query0 + kQueries, rows.query_length) - 1;
  const int key_begin = head.first_key(query0) / kKeys * kKeys;
  const int key_end = head.end_key(last_query);
  const int warp_query = query0 + warp_index() * 16;
  const int warp_last = min(warp_query + 16, rows.query_length) - 1;
  const int first_position = head.position_row(query0 + kQueries - 1, key_begin);

  const auto load_positions = [&](int z, int count) {
    copy_diagonals<D, kThreads, kRing, kOneByOne>(head, first_position, z, count, problem.tensor.position_terms, shared.ring, shared.position_terms);
  };
  const auto load_keys = [&](int key, int stage) {
    copy_keys<D, kThreads, kOneByOne>(head, key, kKeys, shared.keys + stage * Shared::kStage, shared.values + stage * Shared::kStage);
    for (int j = static_cast<int>(threadIdx.x); j < kKeys; j += kThreads) {
      copy_term(problem.key_terms, static_cast<int64_t>(pair) * rows.band.keys, key + j, rows.band.keys,
                shared.key_terms + stage * kKeys + j);
    }
  };

  load_keys(key_begin, 0);
  load_positions(0, kQueries + kKeys);
  if constexpr (!Tile::kInRegisters || kPositions) {
    copy_tile<D, kThreads, kOneByOne>(
        kQueries, rows.head_dim, rows.query.first, [&](int i) { return head.query(query0 + i); }, shared.queries);
    copy_tile<D, kThreads, kOneByOne>(
        kQueries, rows.head_dim, rows.query.first, [&](int i) { return out_gradient_row(problem, head, query0 + i); },
        shared.out_gradients);
  }
  cp_async_commit();

  constexpr int kHeld = Tile::kInRegisters ? kSteps : 1;
  uint32_t query_fragments[kHeld][4], gradient_fragments[kHeld][4];
  if constexpr (Tile::kInRegisters && !kPositions) {
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
  constexpr uint32_t nothing[4] = {};
  const float scale = rows.scale * kLogOfE;
  const float value_scale = head.head_scale() * static_cast<float>(rows.dropout.scale);
  const auto facts_of = [&](int query) -> RowFacts {
    return {head.first_key(query), head.end_key(query), row_statistic(head, problem.gradient, query)};
  };
  RowFacts held_facts[Shared::kFacts > 0 ? 1 : 2];
  if constexpr (Shared::kFacts > 0) {
    if (threadIdx.x < kQueries) shared.facts[threadIdx.x] = facts_of(query0 + static_cast<int>(threadIdx.x));
  } else {
#pragma unroll
    for (int half = 0; half < 2; ++half) held_facts[half] = facts_of(warp_query + 8 * half + fragment_row());
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
  if constexpr (kPositions) diagonal_sums.begin(first_position);

  // sums += dU [16, 16 columns from tile n on] R
  const auto add_diagonals = [&](int n) {
    float low[4], high[4];
    skew.unshift(score_gradients[n], score_gradients[n + 1], score_gradients[n + 2], low);
    skew.unshift(score_gradients[n + 1], score_gradients[n + 2], score_gradients[n + 3], high);
    uint32_t a[4];
    pack_left<T>(low, high, a);
    if constexpr (kPositions) diagonal_sums.put(a, n / 2);
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
      if constexpr (kPositions) {  // registers: they are needed for the sums of dR later in the step
#pragma unroll
        for (int k = 0; k < kSteps; ++k) {
          load_left<D>(shared.queries + warp_index() * 16 * kStride, k, query_fragments[k]);
          load_left<D>(shared.out_gradients + warp_index() * 16 * kStride, k, gradient_fragments[k]);
        }
      }
      if (!started) {
        started = true;
        position_tile(0);
        position_tile(1);
      }
      float scores[kKeyTiles][4];
#pragma unroll
      for (int n = 0; n < kKeyTiles; ++n) {
        position_tile(n + 2);
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
        RowFacts facts;
        if constexpr (Shared::kFacts > 0) {
          facts = shared.facts[query - query0];
        } else {
          facts = held_facts[half];
        }
        const int begin = edge ? facts.begin - key0 - fragment_column() : -8;
        const int end = edge ? facts.end - key0 - fragment_column() : kKeys;
        const uint32_t kept = rows.dropout.active() ? kept_bits(rows.dropout, pair, query, key0) : ~0u;
#pragma unroll
        for (int n = 0; n < kKeyTiles; ++n) {
#pragma unroll
          for (int e = 0; e < 2; ++e) {
            float p = exp2_approx(scores[n][2 * half + e] * scale - facts.statistic.shift);
            if (8 * n + e < begin || 8 * n + e >= end) p = 0;
            float& product = score_gradients[n + 2][2 * half + e];
            const float factor = (kept >> (2 * n + e) & 1u) != 0 ? value_scale : 0.0f;
            product = p * (product * factor - facts.statistic.delta);
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
    } else if constexpr (kPositions) {
      diagonal_sums.put(nothing, 0);
      diagonal_sums.put(nothing, 1);
    }
    if constexpr (kPositions) diagonal_sums.add_step();
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
  if constexpr (kPositions) __syncthreads();
  // What the last step left over. A warp whose keys ended before the block's has nothing: its band ends at a diagonal, and all of the
  // columns that wait lie beyond it.
  if (active) {
#pragma unroll
    for (int n = 2; n < kKeyTiles + 2; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) score_gradients[n][e] = 0;
    }
    add_diagonals(0);
  } else if constexpr (kPositions) {
    diagonal_sums.put(nothing, 0);
  }
  if constexpr (kPositions) {
    diagonal_sums.put(nothing, 1);
    diagonal_sums.add_step();
    diagonal_sums.end();
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

// A block: kQueries queries of one batch row and head.
//
// FLOPs: 10 * head_dim a score. Bytes: operands once per block of queries; dQ once.
// Prediction, H100: B32 H16 T384 M384 d64 (151M scores): 97 GFLOP, 390 us at 250 TFLOP/s.
template <typename T, int D>
__global__ void __launch_bounds__(QueryGradientTile<D>::kThreads, D <= 64 ? 2 : 1)
    relative_tensor_query_gradient(const TensorGradientProblem<T> problem) {
  using Shared = QueryGradientShared<T, D, false>;
  constexpr int kQueries = QueryGradientTile<D>::kQueries;
  XL_DYNAMIC_SHARED(shared_bytes);
  const Shared shared(shared_bytes);
  const RelativeProblem<T>& rows = problem.tensor.rows;
  const int tiles = (rows.query_length + kQueries - 1) / kQueries;
  const int pair = static_cast<int>(blockIdx.x) / tiles;
  const RelativeHead<T> head(rows, pair / rows.heads, pair % rows.heads);
  NoDiagonalSums none;
  differentiate_queries<T, D, false>(problem, head, (tiles - 1 - static_cast<int>(blockIdx.x) % tiles) * kQueries, shared, none);
}

// dR as well. A block: one of `chunks` parts of the queries of one batch row and head, with a partial sum of dR of its own.
//
// FLOPs: 12 * head_dim a score. Bytes: as without dR, and the partial sums, 4 * head_dim a batch row, head and position, written twice.
// Prediction, H100: B32 H16 T384 M384 d64, one part: 116 GFLOP, 460 us at 250 TFLOP/s; 101 MB of partial sums.
template <typename T, int D>
__global__ void __launch_bounds__(QueryGradientTile<D>::kThreads, 2)
    relative_tensor_query_position_gradient(const TensorGradientProblem<T> problem) {
  using Shared = QueryGradientShared<T, D, true>;
  constexpr int kQueries = QueryGradientTile<D>::kQueries;
  XL_DYNAMIC_SHARED(shared_bytes);
  const Shared shared(shared_bytes);
  const RelativeProblem<T>& rows = problem.tensor.rows;
  const int chunks = problem.gradient.chunks;
  const int64_t tiles = (rows.query_length + kQueries - 1) / kQueries;
  const int pair = static_cast<int>(blockIdx.x) / chunks;
  const int chunk = chunks - 1 - static_cast<int>(blockIdx.x) % chunks;  // those that see most keys first
  const RelativeHead<T> head(rows, pair / rows.heads, pair % rows.heads);
  typename Shared::Diagonals diagonal_sums(problem.gradient, head.head, head.batch * chunks + chunk, shared.score_blocks, shared.queries);
  diagonal_sums.clear();
  const int end = static_cast<int>(tiles * (chunk + 1) / chunks);
  for (int tile = static_cast<int>(tiles * chunk / chunks); tile < end; ++tile) {
    __syncthreads();
    differentiate_queries<T, D, true>(problem, head, tile * kQueries, shared, diagonal_sums);
  }
}

}  // namespace xlformers::cuda
