// A permutation_attention problem as kernels take it, and what is made of its small operands before the large kernels run.
#pragma once

#include "core/permutation_view.h"
#include "cuda/attention_scalar_tile.cuh"
#include "cuda/elementwise.cuh"
#include "cuda/permutation_slots.h"
#include "cuda/relative_problem.cuh"

namespace xlformers::cuda {

template <typename T>
struct PermutationStream {
  using C = Compute<T>;

  StridedRows<const T> query;
  int length;
  bool sees_itself;
  // [batch, length]: rows by position, so that those of a tile stand close together; rows that stand nowhere come last. Null: row n
  // stands at n.
  const StreamSlot* slots;
  const C* segment_scores;  // [batch, heads, length, 2]: scale (q + segment_bias) . e, or null
  AttentionDropout dropout;
  T* out;          // [batch, length, heads, head_dim]
  C* log_sum_exp;  // [batch, heads, length]
};

template <typename T>
struct PermutationProblem {
  RelativeProblem<T> shared;  // keys, values, positions, biases, band; the streams stand for its queries and outputs
  PermutationStream<T> content, query;
  int length;         // of the current rows
  int reversed_from;  // batch rows from here on read the row of the negated distance
  const T* segment_bias;
  const T* segment_embedding;
  const int32_t* segments;
  const int32_t* query_ranks;
  const int32_t* key_ranks;  // [batch, keys], memory first; null: nothing is hidden by rank
  const uint8_t* mask;       // [1 or batch, length, length] or null
  bool mask_by_batch;
};

// Item i of [batch, keys]: the key's rank. Padding and what precedes the memory's start have INT32_MAX, above every query's; the rest of
// the memory is below all.
struct RankKeys {
  const int32_t* key_ranks;
  const uint8_t* key_mask;
  const int32_t* memory_starts;
  int keys, memory;
  Operator op;
  int32_t* ranks;
  DataError* error;

  __device__ int32_t rank(int64_t batch, int j) const {
    if (j < memory) {
      const int start = memory_starts == nullptr ? 0 : memory_starts[batch];
      if (start < 0 || start > memory) {
        if (j == 0) report(error, op, DataErrorKind::memory_start, batch, start, 0, memory + 1);
        return INT32_MIN;
      }
      return j < start ? INT32_MAX : INT32_MIN;
    }
    const int64_t at = batch * (keys - memory) + j - memory;
    if (key_mask != nullptr && key_mask[at] != 0) return INT32_MAX;
    return key_ranks == nullptr ? 0 : key_ranks[at];
  }
  __device__ void operator()(int64_t i) const { ranks[i] = rank(i / keys, static_cast<int>(i % keys)); }
};

// Without a memory only 0 is a start.
struct CheckStarts {
  const int32_t* memory_starts;
  Operator op;
  DataError* error;

  __device__ void operator()(int64_t batch) const {
    if (memory_starts[batch] != 0) report(error, op, DataErrorKind::memory_start, batch, memory_starts[batch], 0, 1);
  }
};

// scores[b, h, n, w] = scale (q_n + segment_bias) . e_w: a warp a row. Reads the queries once.
template <typename T>
__global__ void __launch_bounds__(kElementThreads)
    permutation_segment_scores(const PermutationProblem<T> problem, const StridedRows<const T> query, int length, Compute<T>* scores) {
  using C = Compute<T>;
  const RelativeProblem<T>& shared = problem.shared;
  const int64_t count = static_cast<int64_t>(shared.batch) * length * shared.heads;
  const int64_t step = static_cast<int64_t>(gridDim.x) * (kElementThreads / 32);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * (kElementThreads / 32) + threadIdx.x / 32; i < count; i += step) {
    const int head = static_cast<int>(i % shared.heads);
    const int64_t place = i / shared.heads;
    const int batch = static_cast<int>(place / length), n = static_cast<int>(place % length);
    const int column = head * shared.head_dim;
    const T* const row = query.row(batch, n, column);
    const T* const same = problem.segment_embedding + column;
    const T* const other = same + shared.heads * shared.head_dim;
    C sums[2] = {0, 0};
    for (int k = lane; k < shared.head_dim; k += 32) {
      const C q = widen(row[k]) + (problem.segment_bias == nullptr ? C{0} : widen(problem.segment_bias[column + k]));
      sums[0] += q * widen(same[k]);
      sums[1] += q * widen(other[k]);
    }
    sums[0] = warp_sum(sums[0]);
    sums[1] = warp_sum(sums[1]);
    C* const to = scores + 2 * ((static_cast<int64_t>(batch) * shared.heads + head) * length + n);
    if (lane == 0) to[0] = shared.scale * sums[0], to[1] = shared.scale * sums[1];
  }
}

template <typename T>
Status make_stream(const Context& context, const PermutationAttentionParams& params, const AttentionStream& given,
                   const PermutationProblem<T>& problem, PermutationStream<T>* stream) {
  using C = Compute<T>;
  const RelativeProblem<T>& shared = problem.shared;
  const char* const name = kOperatorNames[static_cast<int>(shared.op)];
  if (given.length > (int64_t{1} << 29)) {
    return make_status(StatusCode::unsupported, "%lld queries: expected at most 2^29", static_cast<long long>(given.length));
  }
  *stream = {{static_cast<const T*>(given.query), given.row_stride, given.batch_stride},
             static_cast<int>(given.length),
             given.sees_itself != 0,
             nullptr,
             nullptr,
             AttentionDropout::of(params.dropout, params.seed, given.offset),
             static_cast<T*>(given.out),
             static_cast<C*>(given.log_sum_exp)};
  Status status = ok_status();
  const int64_t rows = params.batch * given.length;
  if (given.positions != nullptr && rows > 0) {
    status = sort_rows(context, shared.op, given.positions, params.batch, stream->length, problem.length, &stream->slots);
  }
  if (problem.segment_embedding != nullptr && rows > 0 && status.ok()) {
    C* const scores = context.workspace.allocate<C>(2 * rows * shared.heads);
    stream->segment_scores = scores;
    status = launch({name, element_blocks(context, 32 * rows * shared.heads), dim3(kElementThreads), 0, context.stream},
                    permutation_segment_scores<T>, problem, stream->query, stream->length, scores);
  }
  return status;
}

template <typename T>
Status make_permutation_problem(const Context& context, Operator op, const PermutationAttentionParams& params, PermutationProblem<T>* problem) {
  RelativeProblem<T>& shared = problem->shared;
  Status status = make_problem(context, op, relative_view(params), &shared);
  if (!status.ok()) return status;
  const char* const name = kOperatorNames[static_cast<int>(op)];
  problem->length = static_cast<int>(params.current.length);
  problem->reversed_from = static_cast<int>(params.reversed_from);
  problem->segment_bias = static_cast<const T*>(params.segment_bias);
  problem->segment_embedding = static_cast<const T*>(params.segment_embedding);
  problem->segments = params.segments;
  problem->query_ranks = params.query_ranks;
  problem->key_ranks = nullptr;
  problem->mask = params.mask;
  problem->mask_by_batch = params.mask_batch != 1;
  const int keys = shared.band.keys, memory = shared.band.memory;
  if (params.key_ranks != nullptr || params.key_mask != nullptr || (params.memory_starts != nullptr && memory > 0)) {
    int32_t* const ranks = context.workspace.allocate<int32_t>(params.batch * keys);
    problem->key_ranks = ranks;
    status = for_each(context, name, params.batch * keys,
                      RankKeys{params.key_ranks, params.key_mask, params.memory_starts, keys, memory, op, ranks, context.data_error});
  }
  if (params.memory_starts != nullptr && memory == 0 && status.ok()) {
    status = for_each(context, name, params.batch, CheckStarts{params.memory_starts, op, context.data_error});
  }
  if (status.ok()) status = make_stream(context, params, params.content, *problem, &problem->content);
  if (status.ok()) status = make_stream(context, params, params.query, *problem, &problem->query);
  return status;
}

}  // namespace xlformers::cuda
