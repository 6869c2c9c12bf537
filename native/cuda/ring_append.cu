// New rows in the place of a ring's oldest.
#include "cuda/attention_ring.cuh"
#include "cuda/row_copy.cuh"

namespace xlformers::cuda {
namespace {

// Strides in bytes. Row i of [batch, count].
struct AppendedRows {
  RingHead head;
  int64_t count, row_bytes;
  const char* rows;
  int64_t row_stride, batch_stride;
  char* ring;

  template <typename Index>
  __device__ RowAddresses operator()(Index i) const {
    const Index batch = i / static_cast<Index>(count);
    const auto row = static_cast<int64_t>(i - batch * static_cast<Index>(count));
    return {rows + batch * batch_stride + row * row_stride,
            ring + (static_cast<int64_t>(batch) * head.length + head.row(head.begin(), static_cast<int>(row))) * row_bytes};
  }
};

__global__ void advance_ring(const RingHead head, int count, int advance, int32_t* place) {
  if (head.check(Operator::ring_append) && advance != 0) *place = (head.begin() + count) % head.length;
}

}  // namespace

Status ring_append(const Context& context, const void* block) {
  const auto& p = *static_cast<const RingAppendParams*>(block);
  const auto size = static_cast<int64_t>(dtype_size(p.dtype));
  if (size == 0) return make_status(StatusCode::unsupported, "dtype %d is unknown", static_cast<int>(p.dtype));
  if (p.length == 0) return ok_status();
  if (p.length > int64_t{1} << 30) return make_status(StatusCode::unsupported, "a ring of %lld rows", static_cast<long long>(p.length));
  const RingHead head = {p.head, static_cast<int>(p.length), context.data_error};
  const AppendedRows rows = {head,
                             p.count,
                             p.columns * size,
                             static_cast<const char*>(p.rows),
                             p.row_stride * size,
                             p.batch_stride * size,
                             static_cast<char*>(p.ring)};
  const uint64_t spacing =
      address_bits(p.ring) | address_bits(p.rows) | static_cast<uint64_t>(rows.row_stride | rows.batch_stride);
  const Status status = copy_rows(context, "ring_append", p.batch * p.count, rows.row_bytes, spacing, rows);
  if (!status.ok()) return status;
  return launch({"ring_append", dim3(1), dim3(1), 0, context.stream}, advance_ring, head, static_cast<int>(p.count), p.advance, p.head);
}

}  // namespace xlformers::cuda
