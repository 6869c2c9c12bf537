#include "cuda/attention_ring.h"

#include "cuda/attention_ring.cuh"
#include "cuda/row_copy.cuh"

namespace xlformers::cuda {
namespace {

// Strides in bytes. Row i of [batch, length].
struct UnrolledRows {
  Operator op;
  RingHead head;
  int64_t row_bytes;
  const char* rows;
  int64_t row_stride, batch_stride;
  char* out;

  template <typename Index>
  __device__ RowAddresses operator()(Index i) const {
    if (i == 0) head.check(op);
    const Index batch = i / static_cast<Index>(head.length);
    const int j = static_cast<int>(i - batch * static_cast<Index>(head.length));
    return {rows + batch * batch_stride + head.row(head.begin(), j) * row_stride, out + i * row_bytes};
  }
};

}  // namespace

Status unroll_ring(const Context& context, Operator op, DType dtype, int64_t batch, int64_t width, AttentionRows* memory) {
  const auto size = static_cast<int64_t>(dtype_size(dtype));
  if (memory->ring_head == nullptr || size == 0) return ok_status();
  if (memory->length > int64_t{1} << 30) {
    return make_status(StatusCode::unsupported, "a ring of %lld rows", static_cast<long long>(memory->length));
  }
  const RingHead head = {memory->ring_head, static_cast<int>(memory->length), context.data_error};
  const auto unroll = [&](const void** rows) {
    if (*rows == nullptr) return ok_status();
    char* const out = context.workspace.allocate<char>(batch * memory->length * width * size);
    const UnrolledRows from = {op,  head, width * size, static_cast<const char*>(*rows), memory->row_stride * size,
                               memory->batch_stride * size, out};
    *rows = out;
    return copy_rows(context, kOperatorNames[static_cast<int>(op)], batch * memory->length, from.row_bytes,
                     address_bits(from.rows) | static_cast<uint64_t>(from.row_stride | from.batch_stride), from);
  };
  Status status = unroll(&memory->key);
  if (status.ok()) status = unroll(&memory->value);
  memory->row_stride = width;
  memory->batch_stride = memory->length * width;
  memory->ring_head = nullptr;
  return status;
}

}  // namespace xlformers::cuda
