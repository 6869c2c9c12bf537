// Copies a stack of matrices between layouts: joins and splits along an axis.
#include "cpu/elementwise.h"

XL_KERNELS_BEGIN

Status copy_strided(Context& context, const void* block) {
  CopyStridedParams p = *static_cast<const CopyStridedParams*>(block);
  const int64_t size = static_cast<int64_t>(dtype_size(p.dtype));
  if (size == 0) return unsupported_dtype("copy_strided", p.dtype);
  if (p.outer <= 0 || p.rows <= 0 || p.columns <= 0) return ok_status();
  // Rows that follow each other on both sides are one long row.
  if (p.in_row_stride == p.columns && p.out_row_stride == p.columns) {
    p.columns *= p.rows;
    p.rows = 1;
  }
  const char* in = static_cast<const char*>(p.in);
  char* out = static_cast<char*>(p.out);
  const int64_t pieces = divide_up(p.columns, kBlockElements);  // of a long row
  const int64_t together = rows_per_task(p.columns);            // short rows of one task
  parallel_blocks(context, p.outer * p.rows * pieces, pieces > 1 ? 1 : together, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t row = i / pieces % p.rows;
      const int64_t outer = i / pieces / p.rows;
      const int64_t column = i % pieces * kBlockElements;
      const int64_t count = at_most(p.columns - column, kBlockElements);
      __builtin_memcpy(out + (outer * p.out_outer_stride + row * p.out_row_stride + column) * size,
                       in + (outer * p.in_outer_stride + row * p.in_row_stride + column) * size,
                       static_cast<size_t>(count * size));
    }
  });
  return ok_status();
}

XL_KERNELS_END
