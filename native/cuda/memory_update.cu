// The new memory of a layer: the last out_length rows of the old memory followed by the current rows.
#include "cuda/row_copy.cuh"

namespace xlformers::cuda {
namespace {

// Strides in bytes.
struct MemoryRows {
  int64_t first, old_length, out_length, row_bytes;
  const char* old_rows;
  int64_t old_row_stride, old_batch_stride;
  const char* current_rows;
  int64_t current_row_stride, current_batch_stride;
  char* out;

  template <typename Index>
  __device__ RowAddresses operator()(Index i) const {
    const Index batch = i / static_cast<Index>(out_length);
    const int64_t row = first + static_cast<int64_t>(i - batch * static_cast<Index>(out_length));
    const int64_t current = row - old_length;
    const char* const source = current < 0 ? old_rows + batch * old_batch_stride + row * old_row_stride
                                           : current_rows + batch * current_batch_stride + current * current_row_stride;
    return {source, out + i * row_bytes};
  }
};

}  // namespace

Status memory_update(const Context& context, const void* block) {
  const auto& p = *static_cast<const MemoryUpdateParams*>(block);
  const auto size = static_cast<int64_t>(dtype_size(p.dtype));
  if (size == 0)
    return make_status(StatusCode::unsupported, "memory_update: dtype %d is unknown", static_cast<int>(p.dtype));
  const int64_t first = p.old_length + p.current_length - p.out_length;
  if (first < 0) {
    return make_status(StatusCode::invalid_argument,
                       "memory_update: out_length %lld exceeds old_length %lld + current_length %lld",
                       static_cast<long long>(p.out_length), static_cast<long long>(p.old_length),
                       static_cast<long long>(p.current_length));
  }
  const MemoryRows rows = {first,
                           p.old_length,
                           p.out_length,
                           p.columns * size,
                           static_cast<const char*>(p.old_rows),
                           p.old_row_stride * size,
                           p.old_batch_stride * size,
                           static_cast<const char*>(p.current_rows),
                           p.current_row_stride * size,
                           p.current_batch_stride * size,
                           static_cast<char*>(p.out)};
  uint64_t spacing = address_bits(p.out);
  if (first < p.old_length) {
    spacing |= address_bits(p.old_rows) | static_cast<uint64_t>(rows.old_row_stride | rows.old_batch_stride);
  }
  if (p.current_length > 0) {
    spacing |=
        address_bits(p.current_rows) | static_cast<uint64_t>(rows.current_row_stride | rows.current_batch_stride);
  }
  return copy_rows(context, "memory_update", p.batch * p.out_length, rows.row_bytes, spacing, rows);
}

}  // namespace xlformers::cuda
