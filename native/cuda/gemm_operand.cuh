// The operands of a matrix product, as its kernels see them.
#pragma once

#include "core/operators.h"
#include "cuda/gemm_plan.h"
#include "cuda/numeric.cuh"

namespace xlformers::cuda {

// op(A), of which `size` counts rows, or op(B), of which it counts columns: lines of `inner` elements.
template <typename T>
struct GemmOperand {
  const T* data;
  int64_t stride;
  int64_t size;
  bool along;  // the elements of a line are neighbours in memory; else the same element of all lines
  int width;   // elements that a load may take at once

  __device__ __forceinline__ const T* at(int64_t line, int64_t k) const {
    return data + (along ? line * stride + k : k * stride + line);
  }
};

template <typename T>
constexpr int kWidestLoad = 16 / static_cast<int>(sizeof(T));

// 16 bytes at a time where every row begins at a multiple of them, else 4 (two 16-bit elements), else one by one.
template <typename T>
int load_width(const void* data, int64_t stride) {
  const auto fits = [&](size_t bytes) {
    return reinterpret_cast<uintptr_t>(data) % bytes == 0 &&
           stride * static_cast<int64_t>(sizeof(T)) % static_cast<int64_t>(bytes) == 0;
  };
  if (fits(16)) return kWidestLoad<T>;
  return sizeof(T) == 2 && fits(4) ? 2 : 1;
}

template <typename T>
GemmOperand<T> left_operand(const MatrixProductParams& params) {
  return {static_cast<const T*>(params.a), params.a_stride, params.rows, params.transpose_a == 0,
          load_width<T>(params.a, params.a_stride)};
}

template <typename T>
GemmOperand<T> right_operand(const MatrixProductParams& params) {
  return {static_cast<const T*>(params.b), params.b_stride, params.columns, params.transpose_b != 0,
          load_width<T>(params.b, params.b_stride)};
}

__device__ __forceinline__ uint32_t bits_of(__nv_bfloat16 value) { return __bfloat16_as_ushort(value); }
__device__ __forceinline__ uint32_t bits_of(__half value) { return __half_as_ushort(value); }

// What pack<T> made of two values.
template <typename T>
__device__ __forceinline__ void unpack(uint32_t word, float& low, float& high);
template <>
__device__ __forceinline__ void unpack<__nv_bfloat16>(uint32_t word, float& low, float& high) {
  low = __uint_as_float(word << 16);
  high = __uint_as_float(word & 0xFFFF0000u);
}
template <>
__device__ __forceinline__ void unpack<__half>(uint32_t word, float& low, float& high) {
  low = to_float(__ushort_as_half(static_cast<unsigned short>(word & 0xFFFFu)));
  high = to_float(__ushort_as_half(static_cast<unsigned short>(word >> 16)));
}

// `rest` limited to [0, most].
__device__ __forceinline__ int limited(int64_t rest, int most) {
  return rest <= 0 ? 0 : rest < most ? static_cast<int>(rest) : most;
}

// A block's tile: (row tile, column tile) of its number. Blocks that run at the same time take tiles of a square rather
// than of a long row, so that their operands stay in the cache: 8 rows of tiles, column by column.
struct TilePlace {
  int64_t row, column;
};

__device__ __forceinline__ TilePlace tile_place(unsigned number, unsigned row_tiles, unsigned column_tiles) {
  constexpr unsigned kBand = 8;
  const unsigned band = number / (kBand * column_tiles);
  const unsigned in_band = number - band * (kBand * column_tiles);
  const unsigned rest = row_tiles - band * kBand;
  const unsigned band_rows = rest < kBand ? rest : kBand;
  return {band * kBand + in_band % band_rows, in_band / band_rows};
}

__device__ __forceinline__ int64_t size_there(int64_t size, const DeviceCount& there) {
  if (there.count == nullptr) return size;
  const int64_t rest = *there.count - there.begin;
  return rest <= 0 ? 0 : rest < size ? rest : size;
}

// Splits are the grid's second axis.
template <typename T>
struct GemmProblem {
  GemmOperand<T> a, b;
  int64_t inner, split_inner;
  unsigned row_tiles, column_tiles;
  DeviceCount rows_there, inner_there;
};

}  // namespace xlformers::cuda
