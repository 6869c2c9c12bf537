// Bindings of relative attention.
#include <algorithm>

#include "addon/arg_reader.h"

namespace xlformers::addon {
namespace {

// Far more than any sequence, and small enough that sums of a few cannot overflow.
constexpr int64_t kMaxLength = int64_t{1} << 40;

enum class Stage { forward, gradient, probabilities };

// Elements that `length` rows of `width` per batch reach.
int64_t rows_extent(const ArgReader& args, const RelativeAttentionParams& params, int64_t length, const char* stride_name,
                    int64_t row_stride, int64_t batch_stride) {
  const int64_t width = params.heads * params.head_dim;
  if (length > 1 && row_stride < width) {
    args.refuse_integer(ErrorCode::arg_shape, stride_name, row_stride, "at least heads * headDim, " + std::to_string(width));
  }
  return args.strided_extent(params.batch, batch_stride, length, row_stride, width);
}

int64_t rows_extent(const ArgReader& args, const RelativeAttentionParams& params, const AttentionRows& rows) {
  return rows_extent(args, params, rows.length, "rowStride", rows.row_stride, rows.batch_stride);
}

int64_t query_extent(const ArgReader& args, const RelativeAttentionParams& params) {
  return rows_extent(args, params, params.query_length, "queryRowStride", params.query_row_stride, params.query_batch_stride);
}

AttentionRows read_rows(const ArgReader& args, const RelativeAttentionParams& params, Stage stage) {
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

void read_band(const ArgReader& args, RelativeAttentionParams* params) {
  params->band_upper = args.integer("bandUpper", -kMaxInteger, kMaxInteger);
  params->band_lower = args.integer("bandLower", -kMaxInteger, kMaxInteger);
  params->band_segment = args.size("bandSegment", 1);
  if (params->query_length == 0) return;
  const Band band{params->query_length, params->memory.length, params->memory.length + params->current.length,
                  params->band_upper,   params->band_lower,    params->band_segment};
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

RelativeAttentionParams read_attention(const ArgReader& args, Stage stage) {
  RelativeAttentionParams params{};
  const DType dtype = params.dtype = args.float_dtype();
  params.batch = args.integer("batch", 0, kMaxLength);
  params.heads = args.integer("heads", 1, INT32_MAX);
  params.head_dim = args.integer("headDim", 1, 256);
  params.query_length = args.integer("queryLength", 0, kMaxLength);
  params.scale = args.finite("scale");
  params.query_row_stride = args.size("queryRowStride");
  params.query_batch_stride = args.size("queryBatchStride");
  params.query = args.input("query", dtype, query_extent(args, params));
  params.memory = read_rows(args.object("memory"), params, stage);
  params.current = read_rows(args.object("current"), params, stage);
  params.position_rows = args.integer("positionRows", 0, kMaxLength);
  params.position_row_stride = args.size("positionRowStride");
  params.first_distance = args.integer("firstDistance", -kMaxLength, kMaxLength);
  const int64_t width = params.heads * params.head_dim;
  params.position =
      args.input("position", dtype, args.matrix_extent("positionRowStride", params.position_rows, width, params.position_row_stride));
  params.content_bias = args.input("contentBias", dtype, width, Presence::optional);
  params.position_bias = args.input("positionBias", dtype, width, Presence::optional);
  params.head_scale = args.input("headScale", dtype, params.heads, Presence::optional);
  read_band(args, &params);
  params.dropout = args.probability("dropout");
  params.seed = args.counter("seed");
  params.offset = args.counter("offset");
  const int64_t out = args.product({params.batch, params.query_length, width});
  const int64_t statistics = args.product({params.batch, params.heads, params.query_length});
  if (stage == Stage::forward) {
    params.out = args.output("out", dtype, out);
    params.log_sum_exp = args.output("logSumExp", dtype, statistics);
  } else {
    // The block has one type of pointer for what the forward operator writes and the others read.
    const Presence presence = stage == Stage::probabilities ? Presence::optional : Presence::required;
    params.out = const_cast<void*>(args.input("out", dtype, out, presence));
    params.log_sum_exp = const_cast<void*>(args.input("logSumExp", dtype, statistics));
  }
  return params;
}

void relative_attention(OperatorCall& call, const ArgReader& args) {
  const RelativeAttentionParams params = read_attention(args, Stage::forward);
  call.enqueue(params);
}

void* read_rows_gradient(const ArgReader& args, const char* name, const RelativeAttentionParams& params, const AttentionRows& rows) {
  args.require_distinct(name, params.batch, rows.batch_stride, rows.length, rows.row_stride, params.heads * params.head_dim);
  return args.output(name, params.dtype, rows_extent(args, params, rows),
                     rows.length == 0 ? Presence::optional : Presence::required);
}

void* read_bias_gradient(const ArgReader& args, const char* name, const RelativeAttentionParams& params, const void* bias) {
  if (bias == nullptr && args.present(name)) args.refuse(ErrorCode::arg_shape, name, "a buffer", "none, since there is no such bias");
  return args.output(name, params.dtype, params.heads * params.head_dim, bias == nullptr ? Presence::optional : Presence::required);
}

void relative_attention_gradient(OperatorCall& call, const ArgReader& args) {
  RelativeAttentionGradientParams params{};
  const RelativeAttentionParams& forward = params.forward = read_attention(args.object("forward"), Stage::gradient);
  const int64_t width = forward.heads * forward.head_dim;
  params.out_gradient = args.input("outGradient", forward.dtype, args.product({forward.batch, forward.query_length, width}));
  args.require_distinct("queryGradient", forward.batch, forward.query_batch_stride, forward.query_length, forward.query_row_stride,
                        width);
  params.query_gradient = args.output("queryGradient", forward.dtype, query_extent(args, forward));
  params.memory_key_gradient = read_rows_gradient(args, "memoryKeyGradient", forward, forward.memory);
  params.memory_value_gradient = read_rows_gradient(args, "memoryValueGradient", forward, forward.memory);
  params.current_key_gradient = read_rows_gradient(args, "currentKeyGradient", forward, forward.current);
  params.current_value_gradient = read_rows_gradient(args, "currentValueGradient", forward, forward.current);
  params.position_gradient =
      args.output("positionGradient", forward.dtype,
                  args.matrix_extent("forward.positionRowStride", forward.position_rows, width, forward.position_row_stride));
  params.content_bias_gradient = read_bias_gradient(args, "contentBiasGradient", forward, forward.content_bias);
  params.position_bias_gradient = read_bias_gradient(args, "positionBiasGradient", forward, forward.position_bias);
  call.allow_interleaved_outputs();
  call.enqueue(params);
}

void relative_attention_probabilities(OperatorCall& call, const ArgReader& args) {
  RelativeAttentionProbabilitiesParams params{};
  params.forward = read_attention(args.object("forward"), Stage::probabilities);
  const RelativeAttentionParams& forward = params.forward;
  params.probabilities = args.output(
      "probabilities", forward.dtype,
      args.product({forward.batch, forward.heads, forward.query_length, forward.memory.length + forward.current.length}));
  call.enqueue(params);
}

constexpr OperatorEntry kEntries[] = {
    {"relativeAttention", Operator::relative_attention, relative_attention},
    {"relativeAttentionGradient", Operator::relative_attention_gradient, relative_attention_gradient},
    {"relativeAttentionProbabilities", Operator::relative_attention_probabilities, relative_attention_probabilities},
};

}  // namespace

OperatorFamily attention_operators() { return {kEntries, sizeof kEntries / sizeof *kEntries}; }

}  // namespace xlformers::addon
