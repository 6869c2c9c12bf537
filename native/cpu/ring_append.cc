// New rows in the place of a ring's oldest.
#include "cpu/elementwise.h"

XL_KERNELS_BEGIN

Status ring_append(Context& context, const void* block) {
  const RingAppendParams& p = *static_cast<const RingAppendParams*>(block);
  const int64_t size = static_cast<int64_t>(dtype_size(p.dtype));
  if (size == 0) return unsupported_dtype("ring_append", p.dtype);
  if (p.length == 0) return ok_status();
  const int64_t head = *p.head;
  if (head < 0 || head >= p.length) {
    return make_status(StatusCode::out_of_range, "ring head %lld, expected 0 ... %lld", static_cast<long long>(head),
                       static_cast<long long>(p.length - 1));
  }
  for (int32_t r = 0; r < p.ring_count; ++r) {
    const RingRows& one = p.rings[r];
    const char* const rows = static_cast<const char*>(one.rows);
    char* const ring = static_cast<char*>(one.ring);
    const size_t row_bytes = static_cast<size_t>(one.columns * size);
    if (row_bytes == 0) continue;
    parallel_blocks(context, p.batch * p.count, rows_per_task(one.columns), [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t batch = i / p.count;
        const int64_t row = i % p.count;
        const int64_t place = (head + row) % p.length;
        __builtin_memcpy(ring + (batch * p.length + place) * one.columns * size,
                         rows + (batch * one.batch_stride + row * one.row_stride) * size, row_bytes);
      }
    });
  }
  if (p.advance != 0) *p.head = static_cast<int32_t>((head + p.count) % p.length);
  return ok_status();
}

XL_KERNELS_END
