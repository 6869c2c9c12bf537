// What the bindings of the attention operators share: rows of keys and values, the band, and gradients of them. `Params` is a parameter
// block of relative or of permutation attention.
#pragma once

#include <algorithm>
#include <string>

#include "addon/arg_reader.h"

namespace xlformers::addon {

// Far more than any sequence, and small enough that sums of a few cannot overflow.
constexpr int64_t kMaxLength = int64_t{1} << 40;

enum class Stage { forward, gradient, probabilities };

// Elements that `length` rows of heads * headDim per batch reach.
template <typename Params>
int64_t rows_extent(const ArgReader& args, const Params& params, int64_t length, const char* stride_name, int64_t row_stride,
                    int64_t batch_stride) {
  const int64_t width = params.heads * params.head_dim;
  if (length > 1 && row_stride < width) {
    args.refuse_integer(ErrorCode::arg_shape, stride_name, row_stride, "at least heads * headDim, " + std::to_string(width));
  }
  return args.strided_extent(params.batch, batch_stride, length, row_stride, width);
}

template <typename Params>
int64_t rows_extent(const ArgReader& args, const Params& params, const AttentionRows& rows) {
  return rows_extent(args, params, rows.length, "rowStride", rows.row_stride, rows.batch_stride);
}

template <typename Params>
AttentionRows read_plain_rows(const ArgReader& args, const Params& params, Stage stage) {
  AttentionRows rows{};
  rows.length = args.integer("length", 0, kMaxLength);
  rows.row_stride = args.size("rowStride");
  rows.batch_stride = args.size("batchStride");
  const int64_t extent = rows_extent(args, params, rows);
  const Presence presence = rows.length == 0 ? Presence::optional : Presence::required;
  rows.key = args.input("key", params.dtype, extent, presence);
  rows.value = args.input("value", params.dtype, extent, stage == Stage::probabilities ? Presence::optional : presence);
  return rows;
}

template <typename Params>
AttentionRows read_rows(const ArgReader& args, const Params& params, Stage stage) {
  if (args.present("ringHead")) {
    args.refuse(ErrorCode::arg_shape, "ringHead", "a buffer", "none: only memory can be a ring, and it has no gradient then");
  }
  return read_plain_rows(args, params, stage);
}

// Rows of memory, which may be a ring.
template <typename Params>
AttentionRows read_memory(const ArgReader& args, const Params& params, Stage stage) {
  if (stage == Stage::gradient || !args.present("ringHead")) return read_rows(args, params, stage);
  AttentionRows rows = read_plain_rows(args, params, stage);
  if (rows.length > INT32_MAX / 2) args.refuse_integer(ErrorCode::arg_shape, "length", rows.length, "at most 2^30 rows of a ring");
  rows.ring_head = args.ids("ringHead", 1);
  return rows;
}

// Query i, at key M + i, sees the keys j with  floor(i / segment) * segment + lower <= j <= M + i + upper.
struct Band {
  int64_t queries, memory, keys;  // T, M, S = M + current
  int64_t upper, lower, segment;

  // floor(i / segment) * segment <= i with equality at i = 0, and both limits grow with i: the first and the last query decide.
  bool every_query_sees_a_key() const {
    const int64_t last_segment = (queries - 1) / segment * segment;
    return keys > 0 && memory + upper >= 0 && lower <= memory + upper && last_segment + lower < keys;
  }

  // Distances are M + i - j. The nearest: the last visible key of the first query.
  int64_t nearest() const { return std::max(-upper, memory - (keys - 1)); }

  // The farthest of query i is M + min(i, i mod segment - lower), so it is that of the last query of a segment: of the last full
  // one, or of the last query of all.
  int64_t farthest() const {
    const auto of_query = [&](int64_t i) { return memory + std::min(i, i % segment - lower); };
    const int64_t last = queries - 1;
    const int64_t end_of_full_segments = queries / segment * segment - 1;
    return end_of_full_segments < 0 ? of_query(last) : std::max(of_query(last), of_query(end_of_full_segments));
  }
};

// The band of `queries` that stand at the current rows, and whether the positions cover it.
template <typename Params>
void read_band(const ArgReader& args, int64_t queries, Params* params) {
  params->band_upper = args.integer("bandUpper", -kMaxInteger, kMaxInteger);
  params->band_lower = args.integer("bandLower", -kMaxInteger, kMaxInteger);
  params->band_segment = args.size("bandSegment", 1);
  if (queries == 0) return;
  const Band band{queries,           params->memory.length, params->memory.length + params->current.length,
                  params->band_upper, params->band_lower,    params->band_segment};
  if (!band.every_query_sees_a_key()) {
    args.refuse(ErrorCode::arg_range, "bandLower",
                "[" + std::to_string(band.lower) + ", " + std::to_string(band.upper) + "] with " + std::to_string(band.memory) +
                    " rows of memory, " + std::to_string(band.keys - band.memory) + " current ones and segment " +
                    std::to_string(band.segment),
                "a band that shows every query at least one key");
  }
  const int64_t end = params->first_distance + params->position_rows;
  if (band.nearest() < params->first_distance || band.farthest() >= end) {
    args.refuse(ErrorCode::arg_shape, "position",
                "rows for the distances [" + std::to_string(params->first_distance) + ", " + std::to_string(end) + ")",
                "[" + std::to_string(band.nearest()) + ", " + std::to_string(band.farthest()) + "]");
  }
}

// The operands of positions and biases.
template <typename Params>
void read_positions(const ArgReader& args, Params* params) {
  params->position_rows = args.integer("positionRows", 0, kMaxLength);
  params->position_row_stride = args.size("positionRowStride");
  params->first_distance = args.integer("firstDistance", -kMaxLength, kMaxLength);
  const int64_t width = params->heads * params->head_dim;
  params->position = args.input("position", params->dtype,
                                args.matrix_extent("positionRowStride", params->position_rows, width, params->position_row_stride));
  params->content_bias = args.input("contentBias", params->dtype, width, Presence::optional);
  params->position_bias = args.input("positionBias", params->dtype, width, Presence::optional);
  params->head_scale = args.input("headScale", params->dtype, params->heads, Presence::optional);
}

template <typename Params>
void* read_rows_gradient(const ArgReader& args, const char* name, const Params& params, const AttentionRows& rows) {
  args.require_distinct(name, params.batch, rows.batch_stride, rows.length, rows.row_stride, params.heads * params.head_dim);
  return args.output(name, params.dtype, rows_extent(args, params, rows),
                     rows.length == 0 ? Presence::optional : Presence::required);
}

template <typename Params>
void* read_bias_gradient(const ArgReader& args, const char* name, const Params& params, const void* bias) {
  if (bias == nullptr && args.present(name)) args.refuse(ErrorCode::arg_shape, name, "a buffer", "none, since there is no such bias");
  return args.output(name, params.dtype, params.heads * params.head_dim, bias == nullptr ? Presence::optional : Presence::required);
}

// Gradients of keys, values, positions and biases.
template <typename GradientParams>
void read_shared_gradients(const ArgReader& args, GradientParams* params) {
  const auto& forward = params->forward;
  params->memory_key_gradient = read_rows_gradient(args, "memoryKeyGradient", forward, forward.memory);
  params->memory_value_gradient = read_rows_gradient(args, "memoryValueGradient", forward, forward.memory);
  params->current_key_gradient = read_rows_gradient(args, "currentKeyGradient", forward, forward.current);
  params->current_value_gradient = read_rows_gradient(args, "currentValueGradient", forward, forward.current);
  params->position_gradient = args.output(
      "positionGradient", forward.dtype,
      args.matrix_extent("forward.positionRowStride", forward.position_rows, forward.heads * forward.head_dim,
                         forward.position_row_stride));
  params->content_bias_gradient = read_bias_gradient(args, "contentBiasGradient", forward, forward.content_bias);
  params->position_bias_gradient = read_bias_gradient(args, "positionBiasGradient", forward, forward.position_bias);
}

}  // namespace xlformers::addon
