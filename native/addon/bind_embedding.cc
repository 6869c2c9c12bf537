// Bindings of embeddings, positions and the memory of hidden states.
#include <cstddef>
#include <optional>

#include "addon/arg_reader.h"
#include "addon/variable_block.h"

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
  constexpr int64_t kMaxRings = 1 << 20;
  std::optional<VariableBlock<RingAppendParams, RingRows>> block;
  const DType dtype = args.float_dtype();
  const int64_t batch = args.size("batch");
  const int64_t length = args.integer("length", 0, INT32_MAX / 2);
  const int64_t count = args.integer("count", 0, length);
  args.each(
      "rings", 1, kMaxRings,
      [&](int64_t rings) { block.emplace(offsetof(RingAppendParams, rings), rings).params().ring_count = static_cast<int32_t>(rings); },
      [&](const ArgReader& element, int64_t index) {
        RingRows& ring = block->params().rings[index];
        ring.columns = element.size("columns");
        ring.row_stride = element.size("rowStride");
        ring.batch_stride = element.size("batchStride");
        ring.rows = element.input("rows", dtype, element.strided_extent(batch, ring.batch_stride, count, ring.row_stride, ring.columns),
                                  count == 0 ? Presence::optional : Presence::required);
        ring.ring = element.output("ring", dtype, element.product({batch, length, ring.columns}));
      });
  RingAppendParams& params = block->params();
  params.dtype = dtype;
  params.batch = batch;
  params.count = count;
  params.length = length;
  params.head = static_cast<int32_t*>(args.output("head", DType::i32, 1));
  params.advance = args.boolean("advance") ? 1 : 0;
  call.enqueue_bytes(&params, block->bytes());
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
