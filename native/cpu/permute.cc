// Axis permutation of arrays of up to four axes.
#include "core/permuted_axes.h"
#include "cpu/elementwise.h"

XL_KERNELS_BEGIN

namespace {

// The innermost axis is contiguous on both sides: rows are copied.
template <typename T>
void copy_rows(Context& context, const PermutedAxes& axes, const T* in, T* out) {
  const int inner = axes.count - 1;
  const int64_t columns = axes.size[inner];
  int64_t rows = 1;
  for (int axis = 0; axis < inner; ++axis) rows *= axes.size[axis];
  parallel_blocks(context, rows, rows_per_task(columns), [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) {
      int64_t rest = row;
      int64_t source = 0;
      for (int axis = inner - 1; axis >= 0; --axis) {
        source += rest % axes.size[axis] * axes.stride[axis];
        rest /= axes.size[axis];
      }
      __builtin_memcpy(out + row * columns, in + source, static_cast<size_t>(columns) * sizeof(T));
    }
  });
}

// Another axis of the output is the contiguous one of the input: tiles of the plane of the two are transposed, so that
// the cache lines of both sides are used whole.
template <typename T>
void transpose_tiles(Context& context, const PermutedAxes& axes, const T* in, T* out) {
  constexpr int64_t kTile = 32;
  const int inner = axes.count - 1;
  int contiguous = 0;
  while (axes.stride[contiguous] != 1) ++contiguous;
  int64_t out_stride[4];
  int64_t stride = 1;
  for (int axis = inner; axis >= 0; --axis) {
    out_stride[axis] = stride;
    stride *= axes.size[axis];
  }
  int64_t planes = 1;
  for (int axis = 0; axis < inner; ++axis) planes *= axis == contiguous ? 1 : axes.size[axis];
  const int64_t rows = axes.size[contiguous];
  const int64_t columns = axes.size[inner];
  const int64_t row_tiles = divide_up(rows, kTile);
  const int64_t column_tiles = divide_up(columns, kTile);
  constexpr int64_t kTilesPerTask = kBlockElements / (kTile * kTile);
  parallel_blocks(context, planes * row_tiles * column_tiles, kTilesPerTask, [&](int64_t begin, int64_t end, int) {
    for (int64_t tile = begin; tile < end; ++tile) {
      int64_t rest = tile / (row_tiles * column_tiles);
      int64_t source = 0, target = 0;
      for (int axis = inner - 1; axis >= 0; --axis) {
        if (axis == contiguous) continue;
        source += rest % axes.size[axis] * axes.stride[axis];
        target += rest % axes.size[axis] * out_stride[axis];
        rest /= axes.size[axis];
      }
      const int64_t first_row = tile / column_tiles % row_tiles * kTile;
      const int64_t first_column = tile % column_tiles * kTile;
      const int64_t last_row = at_most(first_row + kTile, rows);
      const int64_t last_column = at_most(first_column + kTile, columns);
      // By way of a small buffer: both sides are walked along their contiguous axis, whatever the strides do to the
      // cache's sets.
      T buffer[kTile][kTile + 1];
      for (int64_t column = first_column; column < last_column; ++column) {
        const T* from = in + source + column * axes.stride[inner];
        for (int64_t row = first_row; row < last_row; ++row) buffer[row - first_row][column - first_column] = from[row];
      }
      for (int64_t row = first_row; row < last_row; ++row) {
        T* to = out + target + row * out_stride[contiguous];
        for (int64_t column = first_column; column < last_column; ++column)
          to[column] = buffer[row - first_row][column - first_column];
      }
    }
  });
}

}  // namespace

// T stands for any type of its size: elements are only moved.
template <typename T>
static Status run_permute(Context& context, const PermuteParams& params) {
  const T* in = static_cast<const T*>(params.in);
  T* out = static_cast<T*>(params.out);
  for (const int64_t size : params.size) {
    if (size == 0) return ok_status();
  }
  const PermutedAxes axes = permuted_axes(params);
  if (axes.count == 0) {
    out[0] = in[0];
  } else if (axes.stride[axes.count - 1] == 1) {
    copy_rows(context, axes, in, out);
  } else {
    transpose_tiles(context, axes, in, out);
  }
  return ok_status();
}

Status permute(Context& context, const void* block) {
  const PermuteParams& params = *static_cast<const PermuteParams*>(block);
  int seen = 0;
  for (const int32_t axis : params.order) seen |= axis >= 0 && axis < 4 ? 1 << axis : 0;
  if (seen != 0xF) return make_status(StatusCode::invalid_argument, "permute: order is not a permutation of 0..3");
  switch (dtype_size(params.dtype)) {
    case 1: return run_permute<uint8_t>(context, params);
    case 2: return run_permute<uint16_t>(context, params);
    case 4: return run_permute<uint32_t>(context, params);
    case 8: return run_permute<uint64_t>(context, params);
    default: return unsupported_dtype("permute", params.dtype);
  }
}

XL_KERNELS_END
