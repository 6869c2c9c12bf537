// Axis permutation of arrays of up to four axes. Reads and writes each byte once.
#include "core/permuted_axes.h"
#include "cuda/row_copy.cuh"

namespace xlformers::cuda {
namespace {

// Rows that stay whole. Strides in bytes; the outermost axes come last.
struct PermutedRows {
  int64_t size[3], stride[3], row_bytes;
  const char* in;
  char* out;

  template <typename Index>
  __device__ RowAddresses operator()(Index row) const {
    int64_t offset = 0;
    Index rest = row;
#pragma unroll
    for (int axis = 0; axis < 3; ++axis) {
      const Index outer = rest / static_cast<Index>(size[axis]);
      offset += static_cast<int64_t>(rest - outer * static_cast<Index>(size[axis])) * stride[axis];
      rest = outer;
    }
    return {in + offset, out + static_cast<int64_t>(row) * row_bytes};
  }
};

// The innermost axis is contiguous on both sides.
Status permute_rows(const Context& context, const PermutedAxes& axes, int64_t size, const void* in, void* out) {
  PermutedRows rows = {{1, 1, 1}, {0, 0, 0}, size, static_cast<const char*>(in), static_cast<char*>(out)};
  int64_t count = 1;
  uint64_t spacing = address_bits(in) | address_bits(out);
  if (axes.count > 0) rows.row_bytes *= axes.size[axes.count - 1];
  for (int k = 0; k < axes.count - 1; ++k) {
    rows.size[k] = axes.size[axes.count - 2 - k];
    rows.stride[k] = axes.stride[axes.count - 2 - k] * size;
    count *= rows.size[k];
    spacing |= static_cast<uint64_t>(rows.stride[k]);
  }
  return copy_rows(context, "permute", count, rows.row_bytes, spacing, rows);
}

constexpr int kTile = 32, kTileRows = 8;

// Planes [rows, columns] of the output whose rows are contiguous in the input. Strides in elements.
struct Planes {
  int64_t rows, columns, row_tiles, column_tiles, tiles;
  int64_t in_column_stride, out_row_stride;
  int64_t size[2], in_stride[2], out_stride[2];  // of the planes
};

// Tiles of 32 x 32 by way of shared memory, so that both sides are walked along their contiguous axis.
template <typename T>
__global__ void __launch_bounds__(kTile* kTileRows) transpose_tiles(Planes planes, const T* in, T* out) {
  XL_SHARED(buffer, T[kTile][kTile + 1]);
  const int x = static_cast<int>(threadIdx.x), y = static_cast<int>(threadIdx.y);
  for (int64_t tile = blockIdx.x; tile < planes.tiles; tile += gridDim.x) {
    const int64_t column_tile = tile % planes.column_tiles, rest = tile / planes.column_tiles;
    const int64_t row_tile = rest % planes.row_tiles, plane = rest / planes.row_tiles;
    const int64_t inner = plane % planes.size[1], outer = plane / planes.size[1];
    const int64_t first_row = row_tile * kTile, first_column = column_tile * kTile;
    const T* const from = in + outer * planes.in_stride[0] + inner * planes.in_stride[1];
    T* const to = out + outer * planes.out_stride[0] + inner * planes.out_stride[1];
    __syncthreads();  // the last tile's reads
#pragma unroll
    for (int k = y; k < kTile; k += kTileRows) {
      if (first_row + x < planes.rows && first_column + k < planes.columns) {
        buffer[k][x] = from[(first_column + k) * planes.in_column_stride + first_row + x];
      }
    }
    __syncthreads();
#pragma unroll
    for (int k = y; k < kTile; k += kTileRows) {
      if (first_row + k < planes.rows && first_column + x < planes.columns) {
        to[(first_row + k) * planes.out_row_stride + first_column + x] = buffer[x][k];
      }
    }
  }
}

// Another axis of the output is the contiguous one of the input.
Planes planes_of(const PermutedAxes& axes) {
  const int inner = axes.count - 1;
  int64_t out_stride[4];
  int64_t stride = 1;
  for (int axis = inner; axis >= 0; --axis) {
    out_stride[axis] = stride;
    stride *= axes.size[axis];
  }
  Planes planes = {};
  planes.columns = axes.size[inner];
  planes.in_column_stride = axes.stride[inner];
  planes.size[0] = planes.size[1] = 1;
  int plane_axis = 1;
  for (int axis = inner - 1; axis >= 0; --axis) {
    if (axes.stride[axis] == 1) {
      planes.rows = axes.size[axis];
      planes.out_row_stride = out_stride[axis];
    } else {
      planes.size[plane_axis] = axes.size[axis];
      planes.in_stride[plane_axis] = axes.stride[axis];
      planes.out_stride[plane_axis] = out_stride[axis];
      --plane_axis;
    }
  }
  planes.row_tiles = divide_up(planes.rows, kTile);
  planes.column_tiles = divide_up(planes.columns, kTile);
  planes.tiles = planes.size[0] * planes.size[1] * planes.row_tiles * planes.column_tiles;
  return planes;
}

// T stands for any type of its size: elements are only moved.
template <typename T>
Status transpose(const Context& context, const PermutedAxes& axes, const void* in, void* out) {
  const Planes planes = planes_of(axes);
  const int64_t limit = int64_t{32} * context.device.multiprocessors;
  return launch({"permute", dim3(static_cast<unsigned>(std::min(planes.tiles, limit))), dim3(kTile, kTileRows), 0,
                 context.stream},
                transpose_tiles<T>, planes, static_cast<const T*>(in), static_cast<T*>(out));
}

}  // namespace

Status permute(const Context& context, const void* block) {
  const auto& params = *static_cast<const PermuteParams*>(block);
  int seen = 0;
  for (const int32_t axis : params.order) seen |= axis >= 0 && axis < 4 ? 1 << axis : 0;
  if (seen != 0xF) return make_status(StatusCode::invalid_argument, "permute: order is not a permutation of 0..3");
  for (const int64_t size : params.size) {
    if (size == 0) return ok_status();
  }
  const PermutedAxes axes = permuted_axes(params);
  const size_t size = dtype_size(params.dtype);
  if (axes.count == 0 || axes.stride[axes.count - 1] == 1) {
    if (size > 0) return permute_rows(context, axes, static_cast<int64_t>(size), params.in, params.out);
  }
  switch (size) {
    case 1: return transpose<uint8_t>(context, axes, params.in, params.out);
    case 2: return transpose<uint16_t>(context, axes, params.in, params.out);
    case 4: return transpose<uint32_t>(context, axes, params.in, params.out);
    case 8: return transpose<uint64_t>(context, axes, params.in, params.out);
    default:
      return make_status(StatusCode::unsupported, "permute: dtype %d is unknown", static_cast<int>(params.dtype));
  }
}

}  // namespace xlformers::cuda
