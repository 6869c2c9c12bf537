// Bindings of relative attention.
#include "addon/attention_args.h"

namespace xlformers::addon {
namespace {

int64_t query_extent(const ArgReader& args, const RelativeAttentionParams& params) {
  return rows_extent(args, params, params.query_length, "queryRowStride", params.query_row_stride, params.query_batch_stride);
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
  params.memory = read_memory(args.object("memory"), params, stage);
  params.current = read_rows(args.object("current"), params, stage);
  read_positions(args, &params);
  read_band(args, params.query_length, &params);
  params.memory_starts = args.ids("memoryStarts", params.batch, Presence::optional);
  params.dropout = args.probability("dropout");
  params.seed = args.counter("seed");
  params.offset = args.counter("offset");
  const int64_t out = args.product({params.batch, params.query_length, params.heads, params.head_dim});
  const int64_t statistics = args.product({params.batch, params.heads, params.query_length});
  if (stage == Stage::forward) {
    params.out = args.output("out", dtype, out);
    params.log_sum_exp = args.output("logSumExp", statistics_dtype(dtype), statistics);
  } else {
    // The block has one type of pointer for what the forward operator writes and the others read.
    const Presence presence = stage == Stage::probabilities ? Presence::optional : Presence::required;
    params.out = const_cast<void*>(args.input("out", dtype, out, presence));
    params.log_sum_exp = const_cast<void*>(args.input("logSumExp", statistics_dtype(dtype), statistics));
  }
  return params;
}

void relative_attention(OperatorCall& call, const ArgReader& args) {
  const RelativeAttentionParams params = read_attention(args, Stage::forward);
  call.enqueue(params);
}

void relative_attention_gradient(OperatorCall& call, const ArgReader& args) {
  RelativeAttentionGradientParams params{};
  const RelativeAttentionParams& forward = params.forward = read_attention(args.object("forward"), Stage::gradient);
  const int64_t width = forward.heads * forward.head_dim;
  params.out_gradient = args.input("outGradient", forward.dtype, args.product({forward.batch, forward.query_length, width}));
  args.require_distinct("queryGradient", forward.batch, forward.query_batch_stride, forward.query_length, forward.query_row_stride,
                        width);
  params.query_gradient = args.output("queryGradient", forward.dtype, query_extent(args, forward));
  read_shared_gradients(args, &params);
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
