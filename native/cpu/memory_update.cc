// The new memory of a layer: the last out_length rows of the old memory followed by the current rows.
#include "cpu/elementwise.h"

XL_KERNELS_BEGIN

Status memory_update(Context& context, const void* block) {
  const MemoryUpdateParams& p = *static_cast<const MemoryUpdateParams*>(block);
  const int64_t size = static_cast<int64_t>(dtype_size(p.dtype));
  if (size == 0) return unsupported_dtype("memory_update", p.dtype);
  const int64_t first = p.old_length + p.current_length - p.out_length;
  if (first < 0) {
    return make_status(StatusCode::invalid_argument,
                       "memory_update: out_length %lld exceeds old_length %lld + current_length %lld",
                       static_cast<long long>(p.out_length), static_cast<long long>(p.old_length),
                       static_cast<long long>(p.current_length));
  }
  const char* old_rows = static_cast<const char*>(p.old_rows);
  const char* current_rows = static_cast<const char*>(p.current_rows);
  char* out = static_cast<char*>(p.out);
  const size_t row_bytes = static_cast<size_t>(p.columns * size);
  if (row_bytes == 0) return ok_status();
  parallel_blocks(context, p.batch * p.out_length, rows_per_task(p.columns), [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t batch = i / p.out_length;
      const int64_t row = first + i % p.out_length;
      const int64_t current = row - p.old_length;
      const char* source =
          current < 0 ? old_rows + (batch * p.old_batch_stride + row * p.old_row_stride) * size
                      : current_rows + (batch * p.current_batch_stride + current * p.current_row_stride) * size;
      __builtin_memcpy(out + i * p.columns * size, source, row_bytes);
    }
  });
  return ok_status();
}

XL_KERNELS_END
