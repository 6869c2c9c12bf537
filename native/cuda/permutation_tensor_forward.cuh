// XLNet's attention on the tensor cores, forward: bf16 and fp16, sums and statistics in fp32. See relative_tensor_forward.cuh, whose way of
// taking the relative term from registers rows at consecutive positions follow.
#pragma once

#include "cuda/attention_skew.cuh"
#include "cuda/attention_tensor_dropout.cuh"
#include "cuda/permutation_forward.h"
#include "cuda/permutation_rows.cuh"

namespace xlformers::cuda {

// D: the head size rounded up to a tile's.
template <int D>
struct PermutationTensorTile {
  static constexpr int kWarps = 4;
  static constexpr int kThreads = 32 * kWarps;
  static constexpr int kRows = 16 * kWarps;  // of a stream; a warp has 16
  static constexpr int kKeys = 32;           // by step
  static constexpr int kKeyTiles = kKeys / 8;
  static constexpr int kSteps = D / 16;  // of a product over the head
  static constexpr int kStride = head_stride(D);
  // Positions in shared memory: the diagonals of a step, and those that the next one adds.
  static constexpr int kRing = kRows + 2 * kKeys;
  static constexpr int kStripStride = kKeys + 8;
};

// Dynamic shared memory of a block, in this order; all parts are multiples of 16 bytes.
template <typename T, int D, bool kConsecutive>
struct PermutationForwardShared {
  using Tile = PermutationTensorTile<D>;
  T* keys;                // [2 stages][kKeys][kStride]
  T* values;              // likewise
  T* ring;                // consecutive rows: positions [kRing][kStride]
  float* position_terms;  // v . r of the ring's rows [kRing]
  float* strips;          // other rows: products with consecutive distances [kWarps][16][kStripStride]
  float* key_terms;       // u . k [2 stages][kKeys]
  int32_t* key_ranks;     // likewise
  int32_t* key_segments;

  static constexpr int kStage = Tile::kKeys * Tile::kStride;
  static constexpr int kRing = kConsecutive ? Tile::kRing : 0;
  static constexpr int kStrips = kConsecutive ? 0 : Tile::kRows * Tile::kStripStride;
  static constexpr size_t kElements = 4 * kStage + kRing * Tile::kStride;
  static constexpr size_t kBytes = kElements * sizeof(T) + (kRing + kStrips + 6 * Tile::kKeys) * sizeof(float);

  __device__ explicit PermutationForwardShared(unsigned char* memory) {
    keys = reinterpret_cast<T*>(memory);
    values = keys + 2 * kStage;
    ring = values + 2 * kStage;
    position_terms = reinterpret_cast<float*>(keys + kElements);
    strips = position_terms + kRing;
    key_terms = strips + kStrips;
    key_ranks = reinterpret_cast<int32_t*>(key_terms + 2 * Tile::kKeys);
    key_segments = key_ranks + 2 * Tile::kKeys;
  }
};

// Fragments B [16, 8] of all k-steps from 8 rows in global memory: row(i) for i = 0 ... 7, 4-byte aligned, null: zeros.
template <int D, typename T, typename RowAt>
__device__ __forceinline__ void load_rows_global(const RowAt& row, int columns, uint32_t (&b)[D / 16][2]) {
  const T* const from = row(fragment_row());
#pragma unroll
  for (int k = 0; k < D / 16; ++k) {
#pragma unroll
    for (int x = 0; x < 2; ++x) {
      const int column = k * 16 + fragment_column() + 8 * x;
      b[k][x] = from != nullptr && column < columns ? *reinterpret_cast<const uint32_t*>(from + column) : 0u;
    }
  }
}

// A block: kRows rows of a stream, of one batch row and head. It walks over all keys in steps of kKeys, double-buffered by cp.async; a warp
// passes over steps that none of its rows sees. Where a row sees nothing at all, the block walks once more, and passes over nothing.
//
// Rows at consecutive positions: diagonal z of the block is key - row = 1 - kRows + z, its position lies in row z mod kRing of the ring, and
// a step's last products are the next one's first. Rows that say where they stand come sorted: a warp multiplies with 32 consecutive
// distances at a time until they cover its rows' with the step's keys, and each score picks its own from the warp's strip.
//
// FLOPs: 6 * head_dim a score (rows that say where they stand: 4 * head_dim, and 2 * head_dim for each of span / 32 + 2 strips). Bytes from
// device memory: operands and results once (keys, values and positions again by block, from L2).
// Prediction, H100: content stream of XLNet-large, B32 H16 T512 d64, bf16: 134M scores, 51.5 GFLOP, 340 us at 150 TFLOP/s.
template <typename T, int D, bool kConsecutive, bool kDropout>
__global__ void __launch_bounds__(PermutationTensorTile<D>::kThreads, 2)
    permutation_tensor_forward(const PermutationTensorProblem<T> tensor, const PermutationStream<T> stream) {
  using Tile = PermutationTensorTile<D>;
  using Shared = PermutationForwardShared<T, D, kConsecutive>;
  constexpr int kRows = Tile::kRows, kKeys = Tile::kKeys, kKeyTiles = Tile::kKeyTiles, kSteps = Tile::kSteps, kStride = Tile::kStride;
  constexpr int kRing = Tile::kRing, kThreads = Tile::kThreads;
  constexpr float kLog2E = 1.4426950408889634f;  // the softmax is one of powers of two
  XL_DYNAMIC_SHARED(shared_bytes);
  using Rows = TileRows<T, kRows>;
  XL_SHARED(rows, Rows);
  const Shared shared(shared_bytes);
  const PermutationProblem<T>& problem = tensor.problem;
  const RelativeProblem<T>& operands = problem.shared;
  const int tiles = (stream.length + kRows - 1) / kRows;
  const int pair = static_cast<int>(blockIdx.x) / tiles;
  const RelativeHead<T> head(operands, pair / operands.heads, pair % operands.heads, 0);
  const int row0 = static_cast<int>(blockIdx.x) % tiles * kRows;
  const int keys = operands.band.keys, memory = operands.band.memory;
  // Distances of batch rows that read r backwards are negated.
  const int sign = head.batch >= problem.reversed_from ? -1 : 1;
  const auto position_row = [&](int distance) { return sign * distance - operands.first_distance; };
  const int64_t first_term = static_cast<int64_t>(head.head) * operands.position_rows;

  if (threadIdx.x < kRows) rows.load(static_cast<int>(threadIdx.x), row0 + static_cast<int>(threadIdx.x), problem, stream, head);
  __syncthreads();
  const int own = warp_index() * 16;  // of the warp's rows
  uint32_t query_fragments[kSteps][4];
#pragma unroll
  for (int k = 0; k < kSteps; ++k) {
    load_left_global<T>([&](int i) { return rows.query[own + i]; }, k, operands.head_dim, query_fragments[k]);
  }
  const auto multiply = [&](const uint32_t(&b)[kSteps][2], float(&sums)[4]) {
#pragma unroll
    for (int k = 0; k < kSteps; ++k) mma_m16n8k16<T>(sums, query_fragments[k], b[k][0], b[k][1]);
  };
  // Positions of the warp's rows that stand somewhere: [lowest, highest], none: highest < lowest.
  int lowest = INT32_MAX, highest = -1;
  for (int i = 0; i < 16; ++i) {
    if (rows.present(own + i)) lowest = min(lowest, rows.position[own + i]), highest = max(highest, rows.position[own + i]);
  }

  const auto load_keys = [&](int key, int stage) {
    copy_keys<D, kThreads>(head, key, kKeys, shared.keys + stage * Shared::kStage, shared.values + stage * Shared::kStage);
    if (threadIdx.x >= kKeys) return;
    const int i = static_cast<int>(threadIdx.x), at = stage * kKeys + i, j = key + i;
    copy_term(tensor.key_terms, static_cast<int64_t>(pair) * keys, j, keys, shared.key_terms + at);
    shared.key_ranks[at] = problem.key_ranks != nullptr && j < keys ? problem.key_ranks[static_cast<int64_t>(head.batch) * keys + j] : INT32_MIN;
    if (problem.segment_embedding == nullptr) return;
    const bool known = j >= memory && j < keys;
    shared.key_segments[at] = known ? problem.segments[static_cast<int64_t>(head.batch) * problem.length + j - memory] : 0;
  };
  // Starts copying the positions of diagonals [z, z + count) and their terms.
  const auto load_positions = [&](int z, int count) {
    const int first = memory + row0 + kRows - 1 - z;  // its distance, which falls with the diagonal
    copy_rows<D, kThreads>(
        count, operands.head_dim, operands.query.first, [&](int i) { return head.position(position_row(first - i)); },
        [&](int i) { return shared.ring + (z + i) % kRing * kStride; });
    for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads) {
      copy_term(tensor.position_terms, first_term, position_row(first - i), operands.position_rows, shared.position_terms + (z + i) % kRing);
    }
  };
  // Bit 8 half + 2 n + e: the lane's row of that half sees its column e of tile n.
  const auto seen_bits = [&](int key0, const int32_t* ranks) {
    uint32_t bits = 0;
#pragma unroll
    for (int n = 0; n < kKeyTiles; ++n) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int column = 8 * n + fragment_column() + e, rank = ranks[column];
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          if (rows.sees(own + 8 * half + fragment_row(), key0 + column, rank, problem, head.batch)) bits |= 1u << (8 * half + 2 * n + e);
        }
      }
    }
    return bits;
  };

  const Skew skew;
  const float scale = operands.scale * kLog2E;
  float* const strip = shared.strips + own * Tile::kStripStride;
  // Tile n of U of the warp's rows starts at diagonal `window` + 8 n, modulo kRing.
  float diagonals[kConsecutive ? kKeyTiles + 2 : 1][4];
  const auto diagonal_tile = [&](int window, int n, float(&u)[4]) {
    int row = window + 8 * n;
    row -= row >= kRing ? kRing : 0;
    uint32_t b[kSteps][2];
    load_rows<D>(shared.ring + row * kStride, b);
    u[0] = u[2] = shared.position_terms[row + fragment_column()];
    u[1] = u[3] = shared.position_terms[row + fragment_column() + 1];
    multiply(b, u);
  };
  // scores = q . r + v . r of the warp's rows and the keys from key0 on, by strips of consecutive distances.
  const auto scores_of_strips = [&](int key0, float(&scores)[kKeyTiles][4]) {
    const int last = memory + highest - key0;
    for (int nearest = memory + lowest - key0 - (kKeys - 1); nearest <= last; nearest += kKeys) {
#pragma unroll 1
      for (int n = 0; n < kKeyTiles; ++n) {
        uint32_t b[kSteps][2];
        load_rows_global<D, T>([&](int i) { return head.position(position_row(nearest + 8 * n + i)); }, operands.head_dim, b);
        float u[4];
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const int row = position_row(nearest + 8 * n + fragment_column() + e);
          const bool known = tensor.position_terms != nullptr && row >= 0 && row < operands.position_rows;
          u[e] = u[e + 2] = known ? tensor.position_terms[first_term + row] : 0.0f;
        }
        multiply(b, u);
#pragma unroll
        for (int e = 0; e < 4; ++e) strip[(fragment_row() + e / 2 * 8) * Tile::kStripStride + 8 * n + fragment_column() + e % 2] = u[e];
      }
      __syncwarp();
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int i = fragment_row() + 8 * half;
        const int first = memory + rows.position[own + i] - key0 - fragment_column() - nearest;
#pragma unroll
        for (int n = 0; n < kKeyTiles; ++n) {
#pragma unroll
          for (int e = 0; e < 2; ++e) {
            const int x = first - 8 * n - e;
            if (x >= 0 && x < kKeys) scores[n][2 * half + e] = strip[i * Tile::kStripStride + x];
          }
        }
      }
      __syncwarp();
    }
  };

  float out[D / 8][4];
  float maximum[2], sum[2];
  bool blind = false;
  do {
    const bool all_keys = blind;
#pragma unroll
    for (int n = 0; n < D / 8; ++n) out[n][0] = out[n][1] = out[n][2] = out[n][3] = 0;
    maximum[0] = maximum[1] = static_cast<float>(kHiddenScore), sum[0] = sum[1] = 0;
    load_keys(0, 0);
    if constexpr (kConsecutive) load_positions(0, kRows + kKeys);
    cp_async_commit();
    bool started = false;                     // the diagonals that a step leaves to the next are there
    int window = (Tile::kWarps - 1) * 16 - own;
    for (int key0 = 0, stage = 0; key0 < keys; key0 += kKeys, stage ^= 1) {
      cp_async_wait<0>();
      __syncthreads();
      if (key0 + kKeys < keys) {
        load_keys(key0 + kKeys, stage ^ 1);
        if constexpr (kConsecutive) load_positions(key0 + kRows + kKeys, kKeys);
      }
      cp_async_commit();
      const uint32_t seen = seen_bits(key0, shared.key_ranks + stage * kKeys);
      const bool active = highest >= lowest && (all_keys || __any_sync(0xFFFFFFFFu, seen != 0));
      if (active) {
        const T* const key_tile = shared.keys + stage * Shared::kStage;
        const T* const values = shared.values + stage * Shared::kStage;
        float scores[kKeyTiles][4] = {};
        if constexpr (kConsecutive) {
          if (!started) {
            diagonal_tile(window, 0, diagonals[0]);
            diagonal_tile(window, 1, diagonals[1]);
          }
#pragma unroll
          for (int n = 0; n < kKeyTiles; ++n) {
            diagonal_tile(window, n + 2, diagonals[n + 2]);
            skew.shift(diagonals[n], diagonals[n + 1], diagonals[n + 2], scores[n]);
          }
#pragma unroll
          for (int e = 0; e < 4; ++e) diagonals[0][e] = diagonals[kKeyTiles][e], diagonals[1][e] = diagonals[kKeyTiles + 1][e];
        } else {
          scores_of_strips(key0, scores);
        }
#pragma unroll
        for (int n = 0; n < kKeyTiles; ++n) {
          uint32_t b[kSteps][2];
          load_rows<D>(key_tile + 8 * n * kStride, b);
          multiply(b, scores[n]);
        }
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int i = own + 8 * half + fragment_row();
#pragma unroll
          for (int n = 0; n < kKeyTiles; ++n) {
#pragma unroll
            for (int e = 0; e < 2; ++e) {
              const int column = 8 * n + fragment_column() + e;
              float& score = scores[n][2 * half + e];
              score = (score + shared.key_terms[stage * kKeys + column]) * scale;
              if (problem.segment_embedding != nullptr) {
                score += kLog2E * rows.segment_scores[shared.key_segments[stage * kKeys + column] != rows.segment[i] ? 1 : 0][i];
              }
              if ((seen >> (8 * half + 2 * n + e) & 1u) == 0) score = static_cast<float>(kHiddenScore);
            }
          }
          float top = maximum[half];
#pragma unroll
          for (int n = 0; n < kKeyTiles; ++n) top = fmaxf(top, fmaxf(scores[n][2 * half], scores[n][2 * half + 1]));
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
              p = key0 + 8 * n + fragment_column() + e < keys ? exp2_approx(p - top) : 0.0f;
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
            const uint32_t kept = kept_bits(stream.dropout, pair, rows.row[i], key0);
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
#pragma unroll
          for (int n = 0; n < D / 8; n += 2) {
            uint32_t b[4];
            load_columns<D>(values + 16 * k * kStride, 8 * n, b);
            mma_m16n8k16<T>(out[n], a, b[0], b[1]);
            mma_m16n8k16<T>(out[n + 1], a, b[2], b[3]);
          }
        }
      }
      started = active;
      window += kKeys;
      if (window >= kRing) window -= kRing;
    }
    cp_async_wait<0>();
    blind = false;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      blind = blind || (rows.present(own + 8 * half + fragment_row()) && maximum[half] < static_cast<float>(kBlind));
    }
    blind = __syncthreads_or(blind && !all_keys) != 0;
  } while (blind);

  const float factor = head.head_scale() * (kDropout ? static_cast<float>(stream.dropout.scale) : 1.0f);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int i = own + 8 * half + fragment_row(), row = rows.row[i];
    const float total = quad_sum(sum[half]);
    if (row < 0) continue;
    const bool present = rows.present(i);
    if (lane_index() % 4 == 0) {
      stream.log_sum_exp[static_cast<int64_t>(pair) * stream.length + row] =
          present ? (maximum[half] + log2f(total)) * 0.6931471805599453f : 0.0f;
    }
    T* const to =
        stream.out + ((static_cast<int64_t>(head.batch) * stream.length + row) * operands.heads + head.head) * tensor.head_dim;
    const float each = present ? factor / total : 0.0f;
#pragma unroll
    for (int n = 0; n < D / 8; ++n) {
      store_pair(to, 8 * n + fragment_column(), tensor.head_dim, tensor.head_dim % 2 == 0, out[n][2 * half] * each, out[n][2 * half + 1] * each);
    }
  }
}

template <typename T, int D, bool kConsecutive>
Status launch_tensor_stream(const Context& context, const PermutationTensorProblem<T>& tensor, const PermutationStream<T>& stream) {
  using Tile = PermutationTensorTile<D>;
  const RelativeProblem<T>& operands = tensor.problem.shared;
  const int64_t blocks = static_cast<int64_t>(operands.batch) * operands.heads * ((stream.length + Tile::kRows - 1) / Tile::kRows);
  if (blocks == 0) return ok_status();
  if (blocks > INT32_MAX) return make_status(StatusCode::unsupported, "attention of %lld tiles", static_cast<long long>(blocks));
  const LaunchShape shape = {"permutation_attention", dim3(static_cast<unsigned>(blocks)), dim3(Tile::kThreads),
                             PermutationForwardShared<T, D, kConsecutive>::kBytes, context.stream};
  return stream.dropout.active() ? launch(shape, permutation_tensor_forward<T, D, kConsecutive, true>, tensor, stream)
                                 : launch(shape, permutation_tensor_forward<T, D, kConsecutive, false>, tensor, stream);
}

template <typename T, int D>
Status launch_tensor_streams(const Context& context, const PermutationTensorProblem<T>& tensor) {
  Status status = ok_status();
  for (const PermutationStream<T>* stream : {&tensor.problem.content, &tensor.problem.query}) {
    if (status.ok() && stream->slots == nullptr) status = launch_tensor_stream<T, D, true>(context, tensor, *stream);
    if (status.ok() && stream->slots != nullptr) status = launch_tensor_stream<T, D, false>(context, tensor, *stream);
  }
  return status;
}

template <typename T>
Status launch_permutation_tensor_forward(const Context& context, const PermutationTensorProblem<T>& tensor) {
  return tensor.head_dim <= 64 ? launch_tensor_streams<T, 64>(context, tensor) : launch_tensor_streams<T, 128>(context, tensor);
}

}  // namespace xlformers::cuda
