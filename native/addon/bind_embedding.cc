// Bindings of embeddings, positions and the memory of hidden states.
#include "addon/arg_reader.h"

namespace xlformers::addon {
namespace {

// The fields that both directions share.
template <typename Params>
void read_embedding(const ArgReader& args, Params* params) {
  params->dtype = args.float_dtype();
  params->count = args.size("count");
  params->table_rows = args.size("tableRows");
  params->columns = args.size("columns");
  params->first_id = args.integer("firstId", 0, INT32_MAX);
  params->partial = args.boolean("partial");
  params->accumulate = args.boolean("accumulate");
  params->scale = args.finite("scale");
  params->ids = args.ids("ids", params->count);
}

void embedding(OperatorCall& call, const ArgReader& args) {
  EmbeddingParams params{};
  read_embedding(args, &params);
  params.table = args.input("table", params.dtype, args.product({params.table_rows, params.columns}));
  params.out = args.output("out", params.dtype, args.product({params.count, params.columns}));
  call.enqueue(params);
}

void embedding_gradient(OperatorCall& call, const ArgReader& args) {
  EmbeddingGradientParams params{};
  read_embedding(args, &params);
  params.out_gradient = args.input("outGradient", params.dtype, args.product({params.count, params.columns}));
  params.table_gradient = args.output("tableGradient", params.dtype, args.product({params.table_rows, params.columns}));
  call.enqueue(params);
}

void sinusoid_positions(OperatorCall& call, const ArgReader& args) {
  SinusoidPositionsParams params{};
  params.dtype = args.float_dtype();
  params.count = args.size("count");
  params.columns = args.size("columns", 2);
  if (params.columns % 2 != 0) args.refuse_integer(ErrorCode::arg_range, "columns", params.columns, "an even number");
  params.first_distance = args.integer("firstDistance", -kMaxInteger, kMaxInteger);
  params.clamp = args.size("clamp");
  params.out = args.output("out", params.dtype, args.product({params.count, params.columns}));
  call.enqueue(params);
}

void memory_update(OperatorCall& call, const ArgReader& args) {
  MemoryUpdateParams params{};
  params.dtype = args.float_dtype();
  params.batch = args.size("batch");
  params.columns = args.size("columns");
  params.old_length = args.size("oldLength");
  params.old_row_stride = args.size("oldRowStride");
  params.old_batch_stride = args.size("oldBatchStride");
  params.current_length = args.size("currentLength");
  params.current_row_stride = args.size("currentRowStride");
  params.current_batch_stride = args.size("currentBatchStride");
  params.out_length = args.size("outLength");
  if (params.out_length > params.old_length + params.current_length) {
    args.refuse_integer(ErrorCode::arg_shape, "outLength", params.out_length, "at most oldLength + currentLength");
  }
  params.old_rows = args.input(
      "oldRows", params.dtype,
      args.strided_extent(params.batch, params.old_batch_stride, params.old_length, params.old_row_stride, params.columns),
      params.old_length == 0 ? Presence::optional : Presence::required);
  params.current_rows = args.input("currentRows", params.dtype,
                                   args.strided_extent(params.batch, params.current_batch_stride, params.current_length,
                                                       params.current_row_stride, params.columns),
                                   params.current_length == 0 ? Presence::optional : Presence::required);
  params.out = args.output("out", params.dtype, args.product({params.batch, params.out_length, params.columns}));
  call.enqueue(params);
}

void ring_append(OperatorCall& call, const ArgReader& args) {
  RingAppendParams params{};
  params.dtype = args.float_dtype();
  params.batch = args.size("batch");
  params.columns = args.size("columns");
  params.length = args.integer("length", 0, INT32_MAX / 2);
  params.count = args.integer("count", 0, params.length);
  params.row_stride = args.size("rowStride");
  params.batch_stride = args.size("batchStride");
  params.rows = args.input("rows", params.dtype,
                           args.strided_extent(params.batch, params.batch_stride, params.count, params.row_stride, params.columns),
                           params.count == 0 ? Presence::optional : Presence::required);
  params.ring = args.output("ring", params.dtype, args.product({params.batch, params.length, params.columns}));
  params.head = static_cast<int32_t*>(args.output("head", DType::i32, 1));
  params.advance = args.boolean("advance") ? 1 : 0;
  call.enqueue(params);
}

constexpr OperatorEntry kEntries[] = {
    {"embedding", Operator::embedding, embedding},
    {"embeddingGradient", Operator::embedding_gradient, embedding_gradient},
    {"sinusoidPositions", Operator::sinusoid_positions, sinusoid_positions},
    {"memoryUpdate", Operator::memory_update, memory_update},
    {"ringAppend", Operator::ring_append, ring_append},
};

}  // namespace

OperatorFamily embedding_operators() { return {kEntries, sizeof kEntries / sizeof *kEntries}; }

}  // namespace xlformers::addon
