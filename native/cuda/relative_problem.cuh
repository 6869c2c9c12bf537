// A relative_attention problem as kernels take it.
#pragma once

#include "core/operators.h"
#include "cuda/attention_band.cuh"
#include "cuda/attention_dropout.cuh"
#include "cuda/attention_rows.cuh"
#include "cuda/data_error.cuh"
#include "cuda/kernel.h"
#include "cuda/numeric.cuh"

namespace xlformers::cuda {

template <typename T>
struct RelativeProblem {
  using C = Compute<T>;

  Operator op;
  int batch, heads, head_dim, query_length;
  C scale;
  StridedRows<const T> query;
  JoinedRows<const T> key, value;
  const T* position;  // [position_rows, heads, head_dim], ascending distance
  int position_rows, first_distance;
  int64_t position_stride;
  const T* content_bias;
  const T* position_bias;
  const T* head_scale;
  AttentionBand band;
  const int32_t* memory_starts;
  AttentionDropout dropout;
  T* out;          // [batch, query, heads, head_dim]
  C* log_sum_exp;  // [batch, heads, query]
  DataError* data_error;
};

// What kernels for one batch row and head need.
template <typename T>
struct RelativeHead {
  using C = Compute<T>;
  const RelativeProblem<T>& problem;
  int batch, head;
  int start;  // keys before it are hidden

  __device__ RelativeHead(const RelativeProblem<T>& the_problem, int the_batch, int the_head)
      : problem(the_problem), batch(the_batch), head(the_head), start(0) {
    if (problem.memory_starts == nullptr) return;
    const int highest = problem.band.memory + min(0, problem.band.upper);
    start = problem.memory_starts[batch];
    if (start >= 0 && start <= highest) return;
    report(problem.data_error, problem.op, DataErrorKind::memory_start, batch, start, 0, highest + 1);
    start = 0;
  }

  __device__ RelativeHead(const RelativeProblem<T>& the_problem, int the_batch, int the_head, int the_start)
      : problem(the_problem), batch(the_batch), head(the_head), start(the_start) {}

  __device__ int pair() const { return batch * problem.heads + head; }
  __device__ int column() const { return head * problem.head_dim; }

  // Rows, null where there are none or nobody sees them: what those hold must not matter.
  __device__ const T* query(int i) const { return i >= 0 && i < problem.query_length ? problem.query.row(batch, i, column()) : nullptr; }
  __device__ const T* key(int j) const { return j >= start && j < problem.band.keys ? problem.key.row(batch, j, column()) : nullptr; }
  __device__ const T* value(int j) const { return j >= start && j < problem.band.keys ? problem.value.row(batch, j, column()) : nullptr; }
  __device__ const T* position(int row) const {
    return row >= 0 && row < problem.position_rows ? problem.position + row * problem.position_stride + column() : nullptr;
  }
  // The row of `position` for query i and key j.
  __device__ int position_row(int i, int j) const { return problem.band.memory + i - j - problem.first_distance; }

  __device__ const T* content_bias() const { return problem.content_bias == nullptr ? nullptr : problem.content_bias + column(); }
  __device__ const T* position_bias() const { return problem.position_bias == nullptr ? nullptr : problem.position_bias + column(); }
  __device__ C head_scale() const { return problem.head_scale == nullptr ? C{1} : widen(problem.head_scale[head]); }

  __device__ int64_t out_offset(int i) const {
    return ((static_cast<int64_t>(batch) * problem.query_length + i) * problem.heads + head) * problem.head_dim;
  }
  __device__ int64_t statistic_offset(int i) const { return static_cast<int64_t>(pair()) * problem.query_length + i; }

  // Queries beyond the last see nothing.
  __device__ int first_key(int i) const { return problem.band.first_key(i, start); }
  __device__ int end_key(int i) const { return i < problem.query_length ? problem.band.end_key(i) : 0; }
};

template <typename T>
JoinedRows<const T> joined_rows(const void* memory, const void* current, const RelativeAttentionParams& params) {
  return {{static_cast<const T*>(memory), params.memory.row_stride, params.memory.batch_stride},
          {static_cast<const T*>(current), params.current.row_stride, params.current.batch_stride},
          static_cast<int>(params.memory.length)};
}

template <typename T>
Status make_problem(const Context& context, Operator op, const RelativeAttentionParams& params, RelativeProblem<T>* problem) {
  constexpr int64_t kLongest = int64_t{1} << 29;
  const int64_t keys = params.memory.length + params.current.length;
  if (params.head_dim > 256 || params.query_length > kLongest || keys > kLongest || params.position_rows > 2 * kLongest ||
      params.batch * params.heads > kLongest) {
    return make_status(StatusCode::unsupported,
                       "head size %lld, %lld queries, %lld keys, %lld heads in all: expected at most 256, and 2^29",
                       static_cast<long long>(params.head_dim), static_cast<long long>(params.query_length), static_cast<long long>(keys),
                       static_cast<long long>(params.batch * params.heads));
  }
  *problem = {op,
              static_cast<int>(params.batch),
              static_cast<int>(params.heads),
              static_cast<int>(params.head_dim),
              static_cast<int>(params.query_length),
              static_cast<Compute<T>>(params.scale),
              {static_cast<const T*>(params.query), params.query_row_stride, params.query_batch_stride},
              joined_rows<T>(params.memory.key, params.current.key, params),
              joined_rows<T>(params.memory.value, params.current.value, params),
              static_cast<const T*>(params.position),
              static_cast<int>(params.position_rows),
              static_cast<int>(params.first_distance),
              params.position_row_stride,
              static_cast<const T*>(params.content_bias),
              static_cast<const T*>(params.position_bias),
              static_cast<const T*>(params.head_scale),
              AttentionBand::of(params.band_upper, params.band_lower, params.band_segment, params.query_length, params.memory.length, keys),
              params.memory_starts,
              AttentionDropout::of(params.dropout, params.seed, params.offset),
              static_cast<T*>(params.out),
              static_cast<Compute<T>*>(params.log_sum_exp),
              context.data_error};
  return ok_status();
}

}  // namespace xlformers::cuda
