// Copies a stack of matrices between layouts: joins and splits along an axis.
#include "cuda/row_copy.cuh"

namespace xlformers::cuda {
namespace {

// Strides in bytes.
struct StridedRows {
  int64_t rows;
  const char* in;
  int64_t in_outer_stride, in_row_stride;
  char* out;
  int64_t out_outer_stride, out_row_stride;

  template <typename Index>
  __device__ RowAddresses operator()(Index i) const {
    const Index outer = i / static_cast<Index>(rows);
    const int64_t row = i - outer * static_cast<Index>(rows);
    return {in + outer * in_outer_stride + row * in_row_stride, out + outer * out_outer_stride + row * out_row_stride};
  }
};

}  // namespace

Status copy_strided(const Context& context, const void* block) {
  CopyStridedParams p = *static_cast<const CopyStridedParams*>(block);
  const auto size = static_cast<int64_t>(dtype_size(p.dtype));
  if (size == 0)
    return make_status(StatusCode::unsupported, "copy_strided: dtype %d is unknown", static_cast<int>(p.dtype));
  if (p.outer <= 0 || p.rows <= 0 || p.columns <= 0) return ok_status();
  // Rows that follow each other on both sides are one long row.
  if (p.rows == 1 || (p.in_row_stride == p.columns && p.out_row_stride == p.columns)) {
    p.columns *= p.rows;
    p.rows = 1;
    p.in_row_stride = p.out_row_stride = 0;
  }
  if (p.outer == 1) p.in_outer_stride = p.out_outer_stride = 0;
  const StridedRows rows = {p.rows,
                            static_cast<const char*>(p.in),
                            p.in_outer_stride * size,
                            p.in_row_stride * size,
                            static_cast<char*>(p.out),
                            p.out_outer_stride * size,
                            p.out_row_stride * size};
  const uint64_t spacing =
      address_bits(p.in) | address_bits(p.out) |
      static_cast<uint64_t>(rows.in_outer_stride | rows.in_row_stride | rows.out_outer_stride | rows.out_row_stride);
  return copy_rows(context, "copy_strided", p.outer * p.rows, p.columns * size, spacing, rows);
}

}  // namespace xlformers::cuda
