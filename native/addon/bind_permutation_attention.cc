// Bindings of permutation attention.
#include "addon/attention_args.h"

namespace xlformers::addon {
namespace {

int64_t query_extent(const ArgReader& args, const PermutationAttentionParams& params, const AttentionStream& stream) {
  return rows_extent(args, params, stream.length, "rowStride", stream.row_stride, stream.batch_stride);
}

AttentionStream read_stream(const ArgReader& args, const PermutationAttentionParams& params, Stage stage) {
  AttentionStream stream{};
  stream.length = args.integer("length", 0, INT32_MAX);
  stream.row_stride = args.size("rowStride");
  stream.batch_stride = args.size("batchStride");
  const Presence presence = stream.length == 0 ? Presence::optional : Presence::required;
  stream.query = args.input("query", params.dtype, query_extent(args, params, stream), presence);
  stream.positions = args.ids("positions", args.product({params.batch, stream.length}), Presence::optional);
  if (stream.positions == nullptr && stream.length > params.current.length) {
    args.refuse_integer(ErrorCode::arg_shape, "length", stream.length,
                        "at most current.length, " + std::to_string(params.current.length) + ", without positions");
  }
  stream.sees_itself = args.boolean("seesItself") ? 1 : 0;
  stream.offset = args.counter("offset");
  const int64_t out = args.product({params.batch, stream.length, params.heads, params.head_dim});
  const int64_t statistics = args.product({params.batch, params.heads, stream.length});
  if (stage == Stage::forward) {
    stream.out = args.output("out", params.dtype, out, presence);
    stream.log_sum_exp = args.output("logSumExp", statistics_dtype(params.dtype), statistics, presence);
  } else {
    // The block has one type of pointer for what the forward operator writes and the others read.
    const Presence needed = stage == Stage::probabilities ? Presence::optional : presence;
    stream.out = const_cast<void*>(args.input("out", params.dtype, out, needed));
    stream.log_sum_exp = const_cast<void*>(args.input("logSumExp", statistics_dtype(params.dtype), statistics, presence));
  }
  return stream;
}

// Segment embedding and ids, ranks, dense mask.
void read_visibility(const ArgReader& args, PermutationAttentionParams* params) {
  const int64_t width = params->heads * params->head_dim;
  const int64_t length = params->current.length;
  const int64_t rows = args.product({params->batch, length});
  params->segment_bias = args.input("segmentBias", params->dtype, width, Presence::optional);
  params->segment_embedding = args.input("segmentEmbedding", params->dtype, args.product({2, width}), Presence::optional);
  params->segments = args.ids("segments", rows, params->segment_embedding == nullptr ? Presence::optional : Presence::required);
  params->query_ranks = args.ids("queryRanks", rows, Presence::optional);
  params->key_ranks =
      args.ids("keyRanks", rows, params->query_ranks == nullptr ? Presence::optional : Presence::required);
  if (params->query_ranks == nullptr && params->key_ranks != nullptr) {
    args.refuse(ErrorCode::arg_shape, "queryRanks", "nothing", "ranks, as keyRanks are given");
  }
  params->mask_batch = args.integer("maskBatch", 1, kMaxLength);
  if (params->mask_batch != 1 && params->mask_batch != params->batch) {
    args.refuse_integer(ErrorCode::arg_shape, "maskBatch", params->mask_batch, "1 or batch, " + std::to_string(params->batch));
  }
  params->mask = static_cast<const uint8_t*>(
      args.input("mask", DType::u8, args.product({params->mask_batch, length, length}), Presence::optional));
  params->key_mask = static_cast<const uint8_t*>(args.input("keyMask", DType::u8, rows, Presence::optional));
  params->memory_starts = args.ids("memoryStarts", params->batch, Presence::optional);
}

PermutationAttentionParams read_attention(const ArgReader& args, Stage stage) {
  PermutationAttentionParams params{};
  params.dtype = args.float_dtype();
  params.batch = args.integer("batch", 0, kMaxLength);
  params.heads = args.integer("heads", 1, INT32_MAX);
  params.head_dim = args.integer("headDim", 1, 256);
  params.scale = args.finite("scale");
  params.memory = read_memory(args.object("memory"), params, stage);
  params.current = read_rows(args.object("current"), params, stage);
  // Positions of queries are 32-bit.
  if (params.current.length > INT32_MAX) {
    args.refuse_integer(ErrorCode::arg_range, "current.length", params.current.length, "at most 2^31 - 1");
  }
  params.content = read_stream(args.object("content"), params, stage);
  params.query = read_stream(args.object("query"), params, stage);
  read_positions(args, &params);
  params.reversed_from = args.integer("reversedFrom", 0, params.batch);
  read_visibility(args, &params);
  read_band(args, params.current.length, &params);
  params.dropout = args.probability("dropout");
  params.seed = args.counter("seed");
  return params;
}

void permutation_attention(OperatorCall& call, const ArgReader& args) {
  const PermutationAttentionParams params = read_attention(args, Stage::forward);
  call.enqueue(params);
}

const void* read_out_gradient(const ArgReader& args, const char* name, const PermutationAttentionParams& params,
                              const AttentionStream& stream) {
  return args.input(name, params.dtype, args.product({params.batch, stream.length, params.heads, params.head_dim}),
                    stream.length == 0 ? Presence::optional : Presence::required);
}

void* read_query_gradient(const ArgReader& args, const char* name, const PermutationAttentionParams& params,
                          const AttentionStream& stream) {
  args.require_distinct(name, params.batch, stream.batch_stride, stream.length, stream.row_stride, params.heads * params.head_dim);
  return args.output(name, params.dtype, query_extent(args, params, stream),
                     stream.length == 0 ? Presence::optional : Presence::required);
}

void permutation_attention_gradient(OperatorCall& call, const ArgReader& args) {
  PermutationAttentionGradientParams params{};
  const PermutationAttentionParams& forward = params.forward = read_attention(args.object("forward"), Stage::gradient);
  params.content_out_gradient = read_out_gradient(args, "contentOutGradient", forward, forward.content);
  params.query_out_gradient = read_out_gradient(args, "queryOutGradient", forward, forward.query);
  params.content_gradient = read_query_gradient(args, "contentGradient", forward, forward.content);
  params.query_gradient = read_query_gradient(args, "queryGradient", forward, forward.query);
  read_shared_gradients(args, &params);
  params.segment_bias_gradient = read_bias_gradient(args, "segmentBiasGradient", forward, forward.segment_bias);
  const bool segments = forward.segment_embedding != nullptr;
  if (!segments && args.present("segmentEmbeddingGradient")) {
    args.refuse(ErrorCode::arg_shape, "segmentEmbeddingGradient", "a buffer", "none, since there is no such embedding");
  }
  params.segment_embedding_gradient =
      args.output("segmentEmbeddingGradient", forward.dtype, args.product({2, forward.heads, forward.head_dim}),
                  segments ? Presence::required : Presence::optional);
  call.allow_interleaved_outputs();
  call.enqueue(params);
}

void permutation_attention_probabilities(OperatorCall& call, const ArgReader& args) {
  PermutationAttentionProbabilitiesParams params{};
  params.forward = read_attention(args.object("forward"), Stage::probabilities);
  const PermutationAttentionParams& forward = params.forward;
  const auto read = [&](const char* name, const AttentionStream& stream) {
    return args.output(name, forward.dtype,
                       args.product({forward.batch, forward.heads, stream.length, forward.memory.length + forward.current.length}),
                       Presence::optional);
  };
  params.content_probabilities = read("contentProbabilities", forward.content);
  params.query_probabilities = read("queryProbabilities", forward.query);
  call.enqueue(params);
}

constexpr OperatorEntry kEntries[] = {
    {"permutationAttention", Operator::permutation_attention, permutation_attention},
    {"permutationAttentionGradient", Operator::permutation_attention_gradient, permutation_attention_gradient},
    {"permutationAttentionProbabilities", Operator::permutation_attention_probabilities, permutation_attention_probabilities},
};

}  // namespace

OperatorFamily permutation_attention_operators() { return {kEntries, sizeof kEntries / sizeof *kEntries}; }

}  // namespace xlformers::addon
