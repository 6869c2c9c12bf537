// Relative attention on the tensor cores, forward: bf16 and fp16, sums and statistics in fp32.
#pragma once

#include "cuda/attention_skew.cuh"
#include "cuda/attention_tensor_dropout.cuh"
#include "cuda/relative_tensor.cuh"

namespace xlformers::cuda {

// Dynamic shared memory of a block, in this order; all parts are multiples of 16 bytes.
template <typename T, int D>
struct ForwardShared {
  using Tile = TensorTile<D>;
  T* keys;                // [2 stages][kKeys][kStride]
  T* values;              // likewise
  T* ring;                // positions [kRing][kStride], see below
  T* bias;                // u [D]
  T* queries;             // [kQueries][kStride] where registers cannot hold them
  float* position_terms;  // of the ring's rows [kRing]
  float* key_terms;       // u . k of this step [kKeys]

  static constexpr int kStage = Tile::kKeys * Tile::kStride;
  static constexpr size_t kElements =
      4 * kStage + Tile::kRing * Tile::kStride + D + (Tile::kQueriesInRegisters ? 0 : Tile::kQueries * Tile::kStride);
  static constexpr size_t kBytes = kElements * sizeof(T) + (Tile::kRing + Tile::kKeys) * sizeof(float);

  __device__ explicit ForwardShared(unsigned char* memory) {
    keys = reinterpret_cast<T*>(memory);
    values = keys + 2 * kStage;
    ring = values + 2 * kStage;
    bias = ring + Tile::kRing * Tile::kStride;
    queries = bias + D;
    position_terms = reinterpret_cast<float*>(keys + kElements);
    key_terms = position_terms + Tile::kRing;
  }
};

// A block: kQueries queries of one batch row and head; it walks over the keys in steps of kKeys, double-buffered by cp.async.
//
// Diagonal z of the block is key - query = first key - query0 - kQueries + 1 + z; its position lies in row z mod kRing of the ring. A step
// moves the window by kKeys diagonals, so the 8-column tiles of U = Q R^T at its end are the first ones of the next step: each lane keeps
// them, and the relative term costs as many products as the content term.
//
// (q + u) . k and (q + v) . r are q . k + u . k and q . r + v . r: one set of fragments of q serves both, and the biases enter in fp32.
//
// FLOPs: 6 * head_dim a score. Bytes from device memory: operands and results once (keys and values again by block of queries, from L2).
// Prediction, H100: B32 H16 T384 M384 d64, bf16, causal: 151M scores, 58 GFLOP, of which 46 in tiles that a warp does not skip: 183 us at
// 250 TFLOP/s; bytes alone, 0.2 GB: 67 us.
template <typename T, int D, bool kDropout>
__global__ void __launch_bounds__(TensorTile<D>::kThreads, TensorTile<D>::kWarps == 4 ? 2 : 1)
    relative_tensor_forward(const TensorProblem<T> problem) {
  using Tile = TensorTile<D>;
  constexpr int kRowTiles = Tile::kRowTiles, kKeyTiles = Tile::kKeyTiles, kSteps = Tile::kSteps, kKeys = Tile::kKeys;
  constexpr int kQueries = Tile::kQueries, kStride = Tile::kStride, kRing = Tile::kRing, kThreads = Tile::kThreads;
  XL_DYNAMIC_SHARED(shared_bytes);
  const ForwardShared<T, D> shared(shared_bytes);
  const RelativeProblem<T>& rows = problem.rows;
  const int tiles = (rows.query_length + kQueries - 1) / kQueries;
  const int pair = static_cast<int>(blockIdx.x) / tiles;
  const RelativeHead<T> head(rows, pair / rows.heads, pair % rows.heads);
  // Late queries see most keys: they come first.
  const int query0 = (tiles - 1 - static_cast<int>(blockIdx.x) % tiles) * kQueries;
  const int last_query = min(query0 + kQueries, rows.query_length) - 1;
  const int key_begin = head.first_key(query0) / kKeys * kKeys;
  const int key_end = head.end_key(last_query);
  const int warp_query = query0 + warp_index() * kRowTiles * 16;
  const int warp_last = min(warp_query + kRowTiles * 16, rows.query_length) - 1;

  const int first_position = head.position_row(query0 + kQueries - 1, key_begin);
  const auto load_positions = [&](int z, int count) {
    copy_diagonals<D, kThreads, kRing>(head, first_position, z, count, problem.position_terms, shared.ring, shared.position_terms);
  };
  const auto load_keys = [&](int key, int stage) {
    constexpr int kStage = ForwardShared<T, D>::kStage;
    copy_keys<D, kThreads>(head, key, kKeys, shared.keys + stage * kStage, shared.values + stage * kStage);
  };

  load_keys(key_begin, 0);
  load_positions(0, kQueries + kKeys);
  if constexpr (!Tile::kQueriesInRegisters) {
    copy_tile<D, kThreads>(
        kQueries, rows.head_dim, rows.query.first, [&](int i) { return head.query(query0 + i); }, shared.queries);
  }
  cp_async_commit();
  const bool has_content_bias = rows.content_bias != nullptr;
  for (int i = static_cast<int>(threadIdx.x); i < D; i += kThreads) {
    const bool present = has_content_bias && i < problem.head_dim;
    shared.bias[i] = present ? rows.content_bias[head.head * problem.head_dim + i] : from_float<T>(0.0f);
  }
  for (int i = static_cast<int>(threadIdx.x); i < kKeys; i += kThreads) shared.key_terms[i] = 0;

  uint32_t query_fragments[Tile::kQueriesInRegisters ? kRowTiles : 1][Tile::kQueriesInRegisters ? kSteps : 1][4];
  if constexpr (Tile::kQueriesInRegisters) {
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
      for (int k = 0; k < kSteps; ++k) {
        load_left_global<T>([&](int i) { return head.query(warp_query + 16 * m + i); }, k, rows.head_dim, query_fragments[m][k]);
      }
    }
  }
  // sums[m] += queries [16] of row tile m times the fragments of 8 rows, for row tiles where wanted(m).
  const auto multiply = [&](const uint32_t(&b)[kSteps][2], int m, float(&sums)[4]) {
#pragma unroll
    for (int k = 0; k < kSteps; ++k) {
      if constexpr (Tile::kQueriesInRegisters) {
        mma_m16n8k16<T>(sums, query_fragments[m][k], b[k][0], b[k][1]);
      } else {
        uint32_t a[4];
        load_left<D>(shared.queries + (warp_index() * kRowTiles + m) * 16 * kStride, k, a);
        mma_m16n8k16<T>(sums, a, b[k][0], b[k][1]);
      }
    }
  };

  const Skew skew;
  const float scale = rows.scale * 1.4426950408889634f;  // the softmax is one of powers of two
  // Tile n of U of row tile m starts at diagonal `window` + 8 (n - 2 m). Row tile m is 2 m tiles ahead of row tile 0 where it starts, so
  // that all use the same positions in a step.
  constexpr int kTiles = kKeyTiles + 2 * kRowTiles;
  float diagonals[kRowTiles][kTiles][4];
  float out[kRowTiles][D / 8][4] = {};
  float maximum[kRowTiles][2], sum[kRowTiles][2];
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m) maximum[m][0] = maximum[m][1] = -1e30f, sum[m][0] = sum[m][1] = 0;
  bool started = false;
  int window = (Tile::kWarps - warp_index()) * kRowTiles * 16 - 16;  // modulo kRing

  const auto position_tile = [&](int x) {
    int row = window + 8 * x;
    row += row < 0 ? kRing : row >= kRing ? -kRing : 0;
    uint32_t b[kSteps][2];
    load_rows<D>(shared.ring + row * kStride, b);
    const float first = shared.position_terms[row + fragment_column()], second = shared.position_terms[row + fragment_column() + 1];
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
      const int n = x + 2 * m;
      if (n < 0) continue;
      float(&u)[4] = diagonals[m][n];
      u[0] = u[2] = first, u[1] = u[3] = second;
      multiply(b, m, u);
    }
  };

  for (int key0 = key_begin, stage = 0; key0 < key_end; key0 += kKeys, stage ^= 1) {
    cp_async_wait<0>();
    __syncthreads();
    if (key0 + kKeys < key_end) {
      load_keys(key0 + kKeys, stage ^ 1);
      load_positions(key0 - key_begin + kQueries + kKeys, kKeys);
    }
    cp_async_commit();
    const T* const keys = shared.keys + stage * ForwardShared<T, D>::kStage;
    const T* const values = shared.values + stage * ForwardShared<T, D>::kStage;

    // u . k: row 0 of a product whose 16 left rows are all u.
    if (has_content_bias) {
      for (int n = warp_index(); n < kKeyTiles; n += Tile::kWarps) {
        uint32_t b[kSteps][2];
        load_rows<D>(keys + 8 * n * kStride, b);
        float terms[4] = {};
#pragma unroll
        for (int k = 0; k < kSteps; ++k) {
          const uint32_t low = *reinterpret_cast<const uint32_t*>(shared.bias + k * 16 + fragment_column());
          const uint32_t high = *reinterpret_cast<const uint32_t*>(shared.bias + k * 16 + fragment_column() + 8);
          const uint32_t a[4] = {low, low, high, high};
          mma_m16n8k16<T>(terms, a, b[k][0], b[k][1]);
        }
        if (fragment_row() == 0) {
          shared.key_terms[8 * n + fragment_column()] = terms[0];
          shared.key_terms[8 * n + fragment_column() + 1] = terms[1];
        }
      }
    }

    // Keys that no query of the warp sees: before its first one, or behind its last.
    const bool active = warp_query <= warp_last && key0 + kKeys > head.first_key(warp_query) && key0 < head.end_key(warp_last);
    float scores[kRowTiles][kKeyTiles][4];
    if (active) {
      if (!started) {
        started = true;
#pragma unroll
        for (int x = 2 - 2 * kRowTiles; x < 2; ++x) position_tile(x);
      }
#pragma unroll
      for (int x = 2; x < kKeyTiles + 2; ++x) position_tile(x);
#pragma unroll
      for (int n = 0; n < kKeyTiles; ++n) {
        uint32_t b[kSteps][2];
        load_rows<D>(keys + 8 * n * kStride, b);
#pragma unroll
        for (int m = 0; m < kRowTiles; ++m) {
          skew.shift(diagonals[m][n], diagonals[m][n + 1], diagonals[m][n + 2], scores[m][n]);
          multiply(b, m, scores[m][n]);
        }
      }
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
        for (int n = 0; n < 2 + 2 * m; ++n) {
#pragma unroll
          for (int e = 0; e < 4; ++e) diagonals[m][n][e] = diagonals[m][n + kKeyTiles][e];
        }
      }
    }
    if (has_content_bias) __syncthreads();
    if (active) {
      // Only tiles at an edge of what is visible pay for masks.
      const bool edge = key0 < head.first_key(warp_last) || key0 + kKeys > head.end_key(warp_query);
#pragma unroll
      for (int n = 0; n < kKeyTiles; ++n) {
        const float first = shared.key_terms[8 * n + fragment_column()], second = shared.key_terms[8 * n + fragment_column() + 1];
#pragma unroll
        for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
          for (int e = 0; e < 4; ++e) scores[m][n][e] = (scores[m][n][e] + (e % 2 == 0 ? first : second)) * scale;
        }
      }
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int query = warp_query + 16 * m + 8 * half + fragment_row();
          if (edge) {
            // A hidden score of -1e30 becomes 0 beside any other; what a row gathers before its first visible key is scaled by 0 later.
            const int begin = head.first_key(query) - key0 - fragment_column(), end = head.end_key(query) - key0 - fragment_column();
#pragma unroll
            for (int n = 0; n < kKeyTiles; ++n) {
#pragma unroll
              for (int e = 0; e < 2; ++e) {
                if (8 * n + e < begin || 8 * n + e >= end) scores[m][n][2 * half + e] = -1e30f;
              }
            }
          }
          float top = maximum[m][half];
#pragma unroll
          for (int n = 0; n < kKeyTiles; ++n) top = fmaxf(top, fmaxf(scores[m][n][2 * half], scores[m][n][2 * half + 1]));
          top = quad_max(top);
          const float correction = exp2_approx(maximum[m][half] - top);
          maximum[m][half] = top;
          float row_sum = 0;
#pragma unroll
          for (int n = 0; n < kKeyTiles; ++n) {
#pragma unroll
            for (int e = 2 * half; e < 2 * half + 2; ++e) {
              scores[m][n][e] = exp2_approx(scores[m][n][e] - top);
              row_sum += scores[m][n][e];
            }
          }
          sum[m][half] = sum[m][half] * correction + row_sum;
          // Once a row has met its largest score, nothing needs to be scaled.
          if (__any_sync(0xFFFFFFFFu, correction != 1.0f)) {
#pragma unroll
            for (int n = 0; n < D / 8; ++n) out[m][n][2 * half] *= correction, out[m][n][2 * half + 1] *= correction;
          }
          if constexpr (kDropout) {
            const uint32_t kept = kept_bits(rows.dropout, pair, query, key0);
#pragma unroll
            for (int n = 0; n < kKeyTiles; ++n) {
#pragma unroll
              for (int e = 0; e < 2; ++e) {
                if ((kept >> (2 * n + e) & 1u) == 0) scores[m][n][2 * half + e] = 0;
              }
            }
          }
        }
      }
#pragma unroll
      for (int k = 0; k < kKeys / 16; ++k) {
        uint32_t a[kRowTiles][4];
#pragma unroll
        for (int m = 0; m < kRowTiles; ++m) pack_left<T>(scores[m][2 * k], scores[m][2 * k + 1], a[m]);
#pragma unroll
        for (int n = 0; n < D / 8; n += 2) {
          uint32_t b[4];
          load_columns<D>(values + 16 * k * kStride, 8 * n, b);
#pragma unroll
          for (int m = 0; m < kRowTiles; ++m) {
            mma_m16n8k16<T>(out[m][n], a[m], b[0], b[1]);
            mma_m16n8k16<T>(out[m][n + 1], a[m], b[2], b[3]);
          }
        }
      }
    }
    window += kKeys;
    if (window >= kRing) window -= kRing;
  }
  cp_async_wait<0>();

  const float factor = head.head_scale() * (kDropout ? static_cast<float>(rows.dropout.scale) : 1.0f);
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int query = warp_query + 16 * m + 8 * half + fragment_row();
      const float total = quad_sum(sum[m][half]);
      if (query >= rows.query_length) continue;
      if (lane_index() % 4 == 0) {
        rows.log_sum_exp[head.statistic_offset(query)] = (maximum[m][half] + log2f(total)) * 0.6931471805599453f;
      }
      T* const to = rows.out + ((static_cast<int64_t>(head.batch) * rows.query_length + query) * rows.heads + head.head) * problem.head_dim;
      const float each = factor / total;
#pragma unroll
      for (int n = 0; n < D / 8; ++n) {
        store_pair(to, 8 * n + fragment_column(), problem.head_dim, problem.head_dim % 2 == 0, out[m][n][2 * half] * each,
                   out[m][n][2 * half + 1] * each);
      }
    }
  }
}

}  // namespace xlformers::cuda
