// Relative attention of a few queries over many keys: decoding. The keys are split among blocks, the last of which merges what all have.
#pragma once

#include <algorithm>

#include "cuda/arrivals.cuh"
#include "cuda/attention_fragments.cuh"
#include "cuda/attention_ring.cuh"
#include "cuda/attention_scalar_tile.cuh"
#include "cuda/relative_problem.cuh"

namespace xlformers::cuda {

constexpr int kDecodeQueries = 8;  // at most
constexpr int kDecodeThreads = 128;
constexpr int kDecodeWarps = kDecodeThreads / 32;
constexpr int kLargestSplit = 256;
constexpr int64_t kMostDecodeBlocks = int64_t{1} << 30;  // of a launch

// What a block leaves: sums over its keys with its own maximum. A pair is a batch row and a head; a launch has those from first_pair on.
template <typename C>
struct DecodePartial {
  int splits, keys;  // keys of a split: a multiple of 8
  int first_pair;
  C* maximum;  // [pairs of the launch, splits, query_length]
  C* sum;
  C* out;             // [pairs of the launch, splits, query_length, head_dim]
  uint32_t* arrived;  // [pairs of the launch]
};

// kVector elements of a row by one load: 16 bytes when rows are aligned, else one element.
__device__ __forceinline__ void load_piece(const float* from, float (&to)[4]) { load_vector(from, to); }
__device__ __forceinline__ void load_piece(const double* from, double (&to)[2]) { load_vector(from, to); }
template <typename T>
__device__ __forceinline__ void load_piece(const T* from, float (&to)[8]) {
  const uint4 piece = *reinterpret_cast<const uint4*>(from);
  const uint32_t words[4] = {piece.x, piece.y, piece.z, piece.w};
#pragma unroll
  for (int w = 0; w < 4; ++w) to[2 * w] = low_half<T>(words[w]), to[2 * w + 1] = low_half<T>(words[w] >> 16);
}
template <typename T>
__device__ __forceinline__ void load_piece(const T* from, Compute<T> (&to)[1]) {
  to[0] = widen(*from);
}

template <typename T, int kVector>
struct DecodeLanes {
  // 64 columns by a group of lanes; by single elements, 32.
  static constexpr int kLanes = kVector == 1 ? 32 : 64 / kVector;
  static constexpr int kColumns = kLanes * kVector;
  static constexpr int kGroups = kDecodeThreads / kLanes;  // rows at a time

  __host__ __device__ static constexpr int padded(int head_dim) { return (head_dim + kColumns - 1) / kColumns * kColumns; }
  // Of Compute<T>: the queries with both biases, the scores, and a result by warp.
  static size_t shared_elements(int queries, int head_dim) {
    return static_cast<size_t>(queries) * (2 * padded(head_dim) + kLargestSplit + kDecodeWarps * kColumns);
  }
};

// By the block of a pair that comes last: out = sum of parts / sum of sums, each scaled to the largest maximum. Warps share out the
// splits, in a fixed order. Reads (head_dim + 2) sums a split and query from the L2 cache: M1600 H16 d64, 26 splits, 7 KB a pair.
// `results`: [kDecodeWarps][32]
template <typename T>
__device__ __forceinline__ void merge_splits(const RelativeProblem<T>& problem, const DecodePartial<Compute<T>>& partial, int launch_pair,
                                             Compute<T>* results) {
  using C = Compute<T>;
  const int pair = partial.first_pair + launch_pair;
  const RelativeHead<T> head(problem, pair / problem.heads, pair % problem.heads);
  const int warp = warp_index(), lane = lane_index();
  for (int i = 0; i < problem.query_length; ++i) {
    const auto at = [&](int split) {
      return (static_cast<int64_t>(launch_pair) * partial.splits + split) * problem.query_length + i;
    };
    C top = static_cast<C>(-1e30), total = 0;
    for (int split = lane; split < partial.splits; split += 32) top = max(top, partial.maximum[at(split)]);
    top = warp_max(top);
    for (int split = lane; split < partial.splits; split += 32) total += partial.sum[at(split)] * exponential(partial.maximum[at(split)] - top);
    total = warp_sum(total);
    const C factor = head.head_scale() * static_cast<C>(problem.dropout.scale) / total;
    for (int column = lane; column - lane < problem.head_dim; column += 32) {
      C sum = 0;
      for (int split = warp; split < partial.splits && column < problem.head_dim; split += kDecodeWarps) {
        sum += partial.out[at(split) * problem.head_dim + column] * exponential(partial.maximum[at(split)] - top);
      }
      results[warp * 32 + lane] = sum;
      __syncthreads();
      sum = 0;
#pragma unroll
      for (int other = 0; other < kDecodeWarps; ++other) sum += results[other * 32 + lane];
      if (warp == 0 && column < problem.head_dim) problem.out[head.out_offset(i) + column] = narrow<T>(sum * factor);
      __syncthreads();
    }
    if (threadIdx.x == 0) problem.log_sum_exp[head.statistic_offset(i)] = top + log(total);
  }
}

// A block: one split of the keys of a pair, for all queries; kQueries >= query_length. Reads each key and value once and writes head_dim
// sums a query: bound by memory. Prediction, H100: M1600 H16 d64 bf16: batch 1, 10 MB a layer, 4 us, 1 us of merging and the launch;
// batch 32, 213 MB, 71 us. Positions are the same for the whole batch and come from L2.
template <typename T, int kVector, int kQueries>
__global__ void __launch_bounds__(kDecodeThreads, 4)
    relative_decode(const RelativeProblem<T> problem, const RingHead ring, const DecodePartial<Compute<T>> partial) {
  using C = Compute<T>;
  using Lanes = DecodeLanes<T, kVector>;
  XL_DYNAMIC_SHARED(shared_bytes);
  const int padded = Lanes::padded(problem.head_dim);
  const int queries = problem.query_length;
  C* const content = reinterpret_cast<C*>(shared_bytes);  // scale (q + u) [query][padded]
  C* const position = content + queries * padded;         // scale (q + v)
  C* const scores = position + queries * padded;          // [query][kLargestSplit]
  C* const results = scores + queries * kLargestSplit;    // [warp][query][kColumns]

  const int launch_pair = static_cast<int>(blockIdx.x) / partial.splits;
  const int pair = partial.first_pair + launch_pair;
  const int split = static_cast<int>(blockIdx.x) % partial.splits;
  const RelativeHead<T> head(problem, pair / problem.heads, pair % problem.heads);
  const int ring_begin = ring.begin();
  if (pair == 0 && split == 0 && threadIdx.x == 0) ring.check(problem.op);
  const auto row = [&](const JoinedRows<const T>& rows, int j) {
    return j < ring.length ? rows.memory.row(head.batch, ring.row(ring_begin, j), head.column())
                           : rows.current.row(head.batch, j - ring.length, head.column());
  };
  const int key0 = split * partial.keys;
  const int begin = max(key0, head.first_key(0));
  const int end = min(key0 + partial.keys, head.end_key(queries - 1));
  const int lane = static_cast<int>(threadIdx.x) % Lanes::kLanes;
  const int group = static_cast<int>(threadIdx.x) / Lanes::kLanes;

  for (int x = static_cast<int>(threadIdx.x); x < queries * padded; x += kDecodeThreads) {
    const int i = x / padded, column = x % padded;
    const bool present = column < problem.head_dim;
    const C q = present ? widen(head.query(i)[column]) : C{0};
    const C u = present && problem.content_bias != nullptr ? widen(head.content_bias()[column]) : C{0};
    const C v = present && problem.position_bias != nullptr ? widen(head.position_bias()[column]) : C{0};
    content[x] = problem.scale * (q + u);
    position[x] = problem.scale * (q + v);
  }
  __syncthreads();

  // Scores: a group of lanes a key. All lanes of a warp go round equally often, for the shuffles.
  for (int first = begin; first < end; first += Lanes::kGroups) {
    const int j = first + group;
    C sums[kQueries] = {};
    for (int column = lane * kVector; column < padded; column += Lanes::kColumns) {
      if (j >= end || column >= problem.head_dim) continue;
      C key[kVector];
      load_piece(row(problem.key, j) + column, key);
#pragma unroll
      for (int i = 0; i < kQueries; ++i) {
        if (i >= queries || j < head.first_key(i) || j >= head.end_key(i)) continue;
        C positions[kVector];
        load_piece(head.position(head.position_row(i, j)) + column, positions);
#pragma unroll
        for (int e = 0; e < kVector; ++e) {
          sums[i] += content[i * padded + column + e] * key[e] + position[i * padded + column + e] * positions[e];
        }
      }
    }
#pragma unroll
    for (int i = 0; i < kQueries; ++i) {
#pragma unroll
      for (int other = Lanes::kLanes / 2; other > 0; other /= 2) sums[i] += __shfl_xor_sync(0xFFFFFFFFu, sums[i], other);
      if (lane == 0 && j < end && i < queries) scores[i * kLargestSplit + j - key0] = sums[i];
    }
  }
  __syncthreads();

  // Softmax: a warp a query.
  for (int i = warp_index(); i < queries; i += kDecodeWarps) {
    C* const row = scores + i * kLargestSplit;
    const int low = max(begin, head.first_key(i)), high = min(end, head.end_key(i));
    C top = static_cast<C>(-1e30);
    for (int j = begin + lane_index(); j < end; j += 32) {
      if (j >= low && j < high) top = max(top, row[j - key0]);
    }
    top = warp_max(top);
    C sum = 0;
    for (int j = begin + lane_index(); j < end; j += 32) {
      C p = j >= low && j < high ? exponential(row[j - key0] - top) : C{0};
      sum += p;
      if (problem.dropout.active() && !problem.dropout.keeps(problem.dropout.numbers(pair, i, j), j)) p = 0;
      row[j - key0] = p;
    }
    sum = warp_sum(sum);
    if (lane_index() == 0) {
      const int64_t at = static_cast<int64_t>(blockIdx.x) * queries + i;
      partial.maximum[at] = top;
      partial.sum[at] = sum;
    }
  }
  __syncthreads();

  // Values: a group of lanes a row again, 64 columns at a time.
  for (int column0 = 0; column0 < problem.head_dim; column0 += Lanes::kColumns) {
    const int column = column0 + lane * kVector;
    C sums[kQueries][kVector] = {};
    if (column < problem.head_dim) {
      for (int j = begin + group; j < end; j += Lanes::kGroups) {
        C value[kVector];
        load_piece(row(problem.value, j) + column, value);
#pragma unroll
        for (int i = 0; i < kQueries; ++i) {
          const C p = i < queries ? scores[i * kLargestSplit + j - key0] : C{0};
#pragma unroll
          for (int e = 0; e < kVector; ++e) sums[i][e] += p * value[e];
        }
      }
    }
#pragma unroll
    for (int i = 0; i < kQueries; ++i) {
#pragma unroll
      for (int e = 0; e < kVector; ++e) {
        C sum = sums[i][e];  // over the groups of the warp
#pragma unroll
        for (int other = Lanes::kLanes; other < 32; other *= 2) sum += __shfl_xor_sync(0xFFFFFFFFu, sum, other);
        if (i < queries && lane_index() < Lanes::kLanes) results[(warp_index() * queries + i) * Lanes::kColumns + lane * kVector + e] = sum;
      }
    }
    __syncthreads();
    for (int x = static_cast<int>(threadIdx.x); x < queries * Lanes::kColumns; x += kDecodeThreads) {
      const int to = column0 + x % Lanes::kColumns;
      if (to >= problem.head_dim) continue;
      C sum = 0;
#pragma unroll
      for (int warp = 0; warp < kDecodeWarps; ++warp) sum += results[warp * queries * Lanes::kColumns + x];
      partial.out[(static_cast<int64_t>(blockIdx.x) * queries + x / Lanes::kColumns) * problem.head_dim + to] = sum;
    }
    __syncthreads();
  }
  if (!arrives_last(partial.arrived + launch_pair, static_cast<uint32_t>(partial.splits))) return;
  merge_splits(problem, partial, launch_pair, results);
}

template <typename T, int kVector>
Status launch_decode_pairs(const Context& context, const RelativeProblem<T>& problem, const RingHead& ring,
                           const DecodePartial<Compute<T>>& partial, int64_t pairs) {
  const LaunchShape shape = {"relative_attention", dim3(static_cast<unsigned>(pairs * partial.splits)), dim3(kDecodeThreads),
                             sizeof(Compute<T>) * DecodeLanes<T, kVector>::shared_elements(problem.query_length, problem.head_dim),
                             context.stream};
  return problem.query_length == 1 ? launch(shape, relative_decode<T, kVector, 1>, problem, ring, partial)
                                   : launch(shape, relative_decode<T, kVector, kDecodeQueries>, problem, ring, partial);
}

// `ring_head`: of the memory, read where it lies; null: its rows lie in order. `aligned`: rows of keys, values and positions are 16-byte
// aligned, and the head is whole pieces of 16 bytes.
template <typename T>
Status launch_decode(const Context& context, const RelativeProblem<T>& problem, const int32_t* ring_head, bool aligned) {
  using C = Compute<T>;
  const int64_t pairs = static_cast<int64_t>(problem.batch) * problem.heads;
  DecodePartial<C> partial;
  partial.keys = kLargestSplit;
  const auto splits = [&] { return (problem.band.keys + partial.keys - 1) / partial.keys; };
  // A few blocks for every multiprocessor, if the keys suffice.
  while (partial.keys > 64 && pairs * splits() < 4 * context.device.multiprocessors) partial.keys /= 2;
  partial.splits = splits();
  // As many at a time as there are counters, and as a grid may have blocks.
  const int64_t most = std::min({pairs, context.arrivals.count, kMostDecodeBlocks / partial.splits});
  partial.maximum = context.workspace.allocate<C>(most * partial.splits * problem.query_length);
  partial.sum = context.workspace.allocate<C>(most * partial.splits * problem.query_length);
  partial.out = context.workspace.allocate<C>(most * partial.splits * problem.query_length * problem.head_dim);
  partial.arrived = context.arrivals.counters;
  const RingHead ring = {ring_head, problem.band.memory, context.data_error};
  for (int64_t first = 0; first < pairs; first += most) {
    partial.first_pair = static_cast<int>(first);
    const int64_t now = std::min(most, pairs - first);
    const Status status = aligned ? launch_decode_pairs<T, 16 / sizeof(T)>(context, problem, ring, partial, now)
                                  : launch_decode_pairs<T, 1>(context, problem, ring, partial, now);
    if (!status.ok()) return status;
  }
  return ok_status();
}

}  // namespace xlformers::cuda
