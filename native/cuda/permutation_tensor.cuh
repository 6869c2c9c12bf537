// Tiles of permutation attention on the tensor cores: 16 rows of a stream by warp, keys in steps, and the scores of both.
//
// Rows at consecutive positions: diagonal z of the block is key - row = 1 - kRows + z, its position lies in row z mod kRing of the ring, and
// a step's last products are the next one's first (relative_tensor_forward.cuh). Rows that say where they stand come sorted: a warp
// multiplies with kKeys consecutive distances at a time, a chunk, until they cover its rows' with the step's keys, and each score picks its
// own from the warp's strip.
#pragma once

#include "cuda/attention_skew.cuh"
#include "cuda/attention_tensor_dropout.cuh"
#include "cuda/permutation_forward.h"
#include "cuda/permutation_rows.cuh"

namespace xlformers::cuda {

constexpr float kLog2E = 1.4426950408889634f;  // the softmax is one of powers of two

// D: the head size rounded up to a tile's.
template <int D>
struct PermutationTensorTile {
  static constexpr int kWarps = 4;
  static constexpr int kThreads = 32 * kWarps;
  static constexpr int kRows = 16 * kWarps;  // of a stream
  static constexpr int kKeys = D <= 64 ? 32 : 16;  // by step
  static constexpr int kKeyTiles = kKeys / 8;
  static constexpr int kSteps = D / 16;  // of a product over the head
  static constexpr int kStride = head_stride(D);
  // Positions in shared memory: the diagonals of a step and those that the next one adds, or a chunk of each warp.
  static constexpr int kRing = kRows + 2 * kKeys;
  static_assert(kRing >= kWarps * kKeys, "the same memory");
  static constexpr int kStripStride = kKeys + 8;
};

// Dynamic shared memory of a block, in this order; all parts are multiples of 16 bytes.
template <typename T, int D>
struct PermutationTensorShared {
  using Tile = PermutationTensorTile<D>;
  T* keys;                // [2 stages][kKeys][kStride]
  T* values;              // likewise
  T* ring;                // positions [kRing][kStride]
  float* position_terms;  // v . r of the ring's rows [kRing]
  float* strips;          // rows that say where they stand: products with a chunk [kWarps][16][kStripStride]
  float* key_terms;       // u . k [2 stages][kKeys]
  int32_t* key_ranks;     // likewise
  int32_t* key_segments;

  static constexpr int kStage = Tile::kKeys * Tile::kStride;
  static constexpr size_t kElements = 4 * kStage + Tile::kRing * Tile::kStride;

  static constexpr size_t bytes(bool consecutive) {
    const size_t strips = consecutive ? 0 : Tile::kRows * Tile::kStripStride;
    return kElements * sizeof(T) + (Tile::kRing + 6 * Tile::kKeys + strips) * sizeof(float);
  }

  __device__ explicit PermutationTensorShared(unsigned char* memory) {
    keys = reinterpret_cast<T*>(memory);
    values = keys + 2 * kStage;
    ring = values + 2 * kStage;
    position_terms = reinterpret_cast<float*>(keys + kElements);
    key_terms = position_terms + Tile::kRing;
    key_ranks = reinterpret_cast<int32_t*>(key_terms + 2 * Tile::kKeys);
    key_segments = key_ranks + 2 * Tile::kKeys;
    strips = reinterpret_cast<float*>(key_segments + 2 * Tile::kKeys);
  }
};

// Starts copying the keys and values from `key` on into a stage, and what is known of them.
template <int D, typename T>
__device__ void load_key_stage(const PermutationTensorProblem<T>& tensor, const RelativeHead<T>& head, int key, int stage,
                               const PermutationTensorShared<T, D>& shared) {
  using Tile = PermutationTensorTile<D>;
  constexpr int kStage = PermutationTensorShared<T, D>::kStage, kKeys = Tile::kKeys;
  const PermutationProblem<T>& problem = tensor.problem;
  const int keys = problem.shared.band.keys, memory = problem.shared.band.memory;
  copy_keys<D, Tile::kThreads>(head, key, kKeys, shared.keys + stage * kStage, shared.values + stage * kStage);
  if (threadIdx.x >= kKeys) return;
  const int i = static_cast<int>(threadIdx.x), at = stage * kKeys + i, j = key + i;
  copy_term(tensor.key_terms, static_cast<int64_t>(head.pair()) * keys, j, keys, shared.key_terms + at);
  const bool ranked = problem.key_ranks != nullptr && j < keys;
  shared.key_ranks[at] = ranked ? problem.key_ranks[static_cast<int64_t>(head.batch) * keys + j] : INT32_MIN;
  if (problem.segment_embedding == nullptr) return;
  const bool known = j >= memory && j < keys;
  shared.key_segments[at] = known ? problem.segments[static_cast<int64_t>(head.batch) * problem.length + j - memory] : 0;
}

template <typename T, int D, bool kConsecutive>
struct PermutationTensorBlock {
  using Tile = PermutationTensorTile<D>;
  using Shared = PermutationTensorShared<T, D>;
  using Rows = TileRows<T, Tile::kRows>;
  static constexpr int kRows = Tile::kRows, kKeys = Tile::kKeys, kKeyTiles = Tile::kKeyTiles, kSteps = Tile::kSteps;
  static constexpr int kStride = Tile::kStride, kRing = Tile::kRing, kThreads = Tile::kThreads;
  using Scores = float[kKeyTiles][4];
  using Fragments = uint32_t[kSteps][4];

  const PermutationTensorProblem<T>& tensor;
  const PermutationProblem<T>& problem;
  const RelativeProblem<T>& operands;
  const PermutationStream<T>& stream;
  const Shared& shared;
  Rows& rows;
  RelativeHead<T> head;
  int row0;             // the stream's, of the block
  int own;              // of the warp's rows in the block
  int lowest, highest;  // positions of the warp's rows that stand somewhere, none: highest < lowest
  int sign;             // -1: reads the row of r of the negated distance
  Fragments queries;
  Skew skew;
  float diagonals[kConsecutive ? kKeyTiles + 2 : 1][4];  // U; the first two come from the step before
  int window;                                            // tile n of U starts at diagonal `window` + 8 n, modulo kRing

  // For all threads. `pair`: batch * heads + head.
  __device__ PermutationTensorBlock(const PermutationTensorProblem<T>& the_tensor, const PermutationStream<T>& the_stream,
                                    const Shared& the_shared, Rows& the_rows, int pair, int tile)
      : tensor(the_tensor),
        problem(the_tensor.problem),
        operands(problem.shared),
        stream(the_stream),
        shared(the_shared),
        rows(the_rows),
        head(operands, pair / operands.heads, pair % operands.heads, 0),
        row0(tile * kRows),
        own(warp_index() * 16),
        lowest(INT32_MAX),
        highest(-1),
        sign(head.batch >= problem.reversed_from ? -1 : 1) {
    const int i = static_cast<int>(threadIdx.x);
    if (i < kRows) rows.load(i, row0 + i, problem, stream, head);
    __syncthreads();
    for (int r = own; r < own + 16; ++r) {
      if (rows.present(r)) lowest = min(lowest, rows.position[r]), highest = max(highest, rows.position[r]);
    }
  }

  __device__ void load_queries() {
    load_fragments([&](int r) { return rows.query[own + r]; }, queries);
  }
  template <typename RowAt>
  __device__ void load_fragments(const RowAt& row, Fragments& to) const {
#pragma unroll
    for (int k = 0; k < kSteps; ++k) load_left_global<T>(row, k, operands.head_dim, to[k]);
  }

  __device__ int memory() const { return operands.band.memory; }
  __device__ int keys() const { return operands.band.keys; }
  // The lane's rows of the block, and its columns of a step.
  __device__ int row(int half) const { return own + 8 * half + fragment_row(); }
  __device__ static int column(int n, int e) { return 8 * n + fragment_column() + e; }
  __device__ int distance(int position, int key) const { return memory() + position - key; }
  __device__ int position_row(int distance) const { return sign * distance - operands.first_distance; }
  __device__ bool has_rows() const { return highest >= lowest; }

  // sums += queries [16] times 8 rows in shared memory.
  __device__ void multiply(const Fragments& left, const T* right, float (&sums)[4]) const { multiply_rows<D>(left, right, right, sums); }

  // For steps over all keys.
  __device__ void begin() {
    load_key_stage<D>(tensor, head, 0, 0, shared);
    begin_positions(0, kRows + kKeys);
    cp_async_commit();
  }
  // Starts copying the first `count` diagonals' positions, for steps from this key on.
  template <bool kOneByOne = (D > 64)>
  __device__ void begin_positions(int key0, int count) {
    window = kRows - 16 - own;
    if constexpr (kConsecutive) load_positions<kOneByOne>(key0, 0, count);
  }
  // Waits for the step's operands, and starts copying the next one's.
  __device__ void begin_step(int key0, int stage) {
    cp_async_wait<0>();
    __syncthreads();
    if (key0 + kKeys < keys()) {
      load_key_stage<D>(tensor, head, key0 + kKeys, stage ^ 1, shared);
      if constexpr (kConsecutive) load_positions(0, key0 + kRows + kKeys, kKeys);
    }
    cp_async_commit();
  }
  __device__ void end_step() {
    window += kKeys;
    if (window >= kRing) window -= kRing;
  }
  __device__ const T* key_tile(int stage) const { return shared.keys + stage * Shared::kStage; }
  __device__ const T* value_tile(int stage) const { return shared.values + stage * Shared::kStage; }

  // Bit 8 half + 2 n + e: the lane's row of that half sees its column e of tile n.
  __device__ uint32_t seen(int key0, int stage) const {
    uint32_t bits = 0;
#pragma unroll
    for (int n = 0; n < kKeyTiles; ++n) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int rank = shared.key_ranks[stage * kKeys + column(n, e)];
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          if (rows.sees(row(half), key0 + column(n, e), rank, problem, head.batch)) bits |= 1u << (8 * half + 2 * n + e);
        }
      }
    }
    return bits;
  }

  // scores = (q + u) . k + (q + v) . r. `follows`: the step before was made, too.
  __device__ void add_scores(int key0, int stage, bool follows, Scores& scores) {
    if constexpr (kConsecutive) {
      if (!follows) {
        diagonal_tile(0);
        diagonal_tile(1);
      }
#pragma unroll
      for (int n = 0; n < kKeyTiles; ++n) {
        diagonal_tile(n + 2);
        skew.shift(diagonals[n], diagonals[n + 1], diagonals[n + 2], scores[n]);
      }
#pragma unroll
      for (int e = 0; e < 4; ++e) diagonals[0][e] = diagonals[kKeyTiles][e], diagonals[1][e] = diagonals[kKeyTiles + 1][e];
    } else {
      for_each_chunk(key0, [&](int nearest) { gather_chunk(key0, nearest, scores); });
    }
#pragma unroll
    for (int n = 0; n < kKeyTiles; ++n) {
      multiply(queries, key_tile(stage) + 8 * n * kStride, scores[n]);
#pragma unroll
      for (int e = 0; e < 4; ++e) scores[n][e] += shared.key_terms[stage * kKeys + column(n, e % 2)];
    }
  }

  __device__ bool segments_differ(int half, int n, int e, int stage) const {
    return shared.key_segments[stage * kKeys + column(n, e)] != rows.segment[row(half)];
  }
  // A score as an exponent of two.
  __device__ float exponent(float score, int half, int n, int e, int stage) const {
    const float scaled = score * (operands.scale * kLog2E);
    if (problem.segment_embedding == nullptr) return scaled;
    return scaled + kLog2E * rows.segment_scores[segments_differ(half, n, e, stage) ? 1 : 0][row(half)];
  }

  // visit(nearest) with the warp's chunk of the positions of distances [nearest, nearest + kKeys) in shared memory, until they cover the
  // warp's rows and the keys from key0 on.
  template <typename Visit>
  __device__ void for_each_chunk(int key0, const Visit& visit) const {
    const int last = memory() + highest - key0;
    for (int nearest = memory() + lowest - key0 - (kKeys - 1); nearest <= last; nearest += kKeys) {
      constexpr int kPieces = D / 8;
#pragma unroll 4
      for (int x = lane_index(); x < kKeys * kPieces; x += 32) {
        const int i = x / kPieces, first = x % kPieces * 8;
        const T* const from = head.position(position_row(nearest + i));
        uint4 piece = make_uint4(0, 0, 0, 0);
        if (from != nullptr && first < operands.head_dim) piece = *reinterpret_cast<const uint4*>(from + first);
        *reinterpret_cast<uint4*>(chunk() + i * kStride + first) = piece;
      }
      __syncwarp();
      visit(nearest);
      __syncwarp();
    }
  }
  __device__ T* chunk() const { return shared.ring + warp_index() * kKeys * kStride; }
  __device__ float* strip() const { return shared.strips + own * Tile::kStripStride; }
  // Where in a chunk the lane's row of a half has its first column's distance; it falls with the column.
  __device__ int chunk_place(int half, int key0, int nearest) const {
    return memory() + rows.position[row(half)] - key0 - fragment_column() - nearest;
  }
  // Row of the ring where diagonal `window` + x lies.
  __device__ int ring_row(int x) const {
    const int at = window + x;
    return at >= kRing ? at - kRing : at;
  }

 private:
  __device__ int64_t first_term() const { return static_cast<int64_t>(head.head) * operands.position_rows; }

  // Starts copying the positions of diagonals [z, z + count) and their terms, counted from that of the first key.
  template <bool kOneByOne = (D > 64)>
  __device__ void load_positions(int first_key, int z, int count) const {
    const int first = distance(row0 + kRows - 1, first_key) - z;  // its distance, which falls with the diagonal
    copy_rows<D, kThreads, kOneByOne>(
        count, operands.head_dim, operands.query.first, [&](int i) { return head.position(position_row(first - i)); },
        [&](int i) { return shared.ring + (z + i) % kRing * kStride; });
    for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads) {
      copy_term(tensor.position_terms, first_term(), position_row(first - i), operands.position_rows, shared.position_terms + (z + i) % kRing);
    }
  }

  __device__ void diagonal_tile(int n) {
    const int at = ring_row(8 * n);
    float(&u)[4] = diagonals[n];
    u[0] = u[2] = shared.position_terms[at + fragment_column()];
    u[1] = u[3] = shared.position_terms[at + fragment_column() + 1];
    multiply(queries, shared.ring + at * kStride, u);
  }

  // Scores whose distance the chunk has take their relative term from it.
  __device__ void gather_chunk(int key0, int nearest, Scores& scores) const {
#pragma unroll 1
    for (int n = 0; n < kKeyTiles; ++n) {
      float u[4];
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int at = position_row(nearest + column(n, e));
        const bool known = tensor.position_terms != nullptr && at >= 0 && at < operands.position_rows;
        u[e] = u[e + 2] = known ? tensor.position_terms[first_term() + at] : 0.0f;
      }
      multiply(queries, chunk() + 8 * n * kStride, u);
#pragma unroll
      for (int e = 0; e < 4; ++e) strip()[(fragment_row() + e / 2 * 8) * Tile::kStripStride + column(n, e % 2)] = u[e];
    }
    __syncwarp();
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int first = chunk_place(half, key0, nearest);
#pragma unroll
      for (int n = 0; n < kKeyTiles; ++n) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const int x = first - 8 * n - e;
          if (x >= 0 && x < kKeys) scores[n][2 * half + e] = strip()[(fragment_row() + 8 * half) * Tile::kStripStride + x];
        }
      }
    }
  }
};

}  // namespace xlformers::cuda
