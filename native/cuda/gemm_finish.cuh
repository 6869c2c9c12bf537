// What is left to do when a product lies in memory: parts of the inner dimension are added up in their order, or what a
// library wrote is taken through activation, dropout and residual. One pass: reads the sums (and c, residual), writes
// c.
#pragma once

#include <algorithm>

#include "cuda/dropout.cuh"
#include "cuda/gemm_epilogue.cuh"
#include "cuda/kernel.h"

namespace xlformers::cuda {

// Sums of all parts: [splits, rows, columns].
template <typename T>
struct PartialSums {
  const Compute<T>* sums;
  int64_t split_elements, columns;
  int splits;

  __device__ __forceinline__ void load(int64_t row, int64_t column, int count, Compute<T> (&value)[4]) const {
    const Compute<T>* from = sums + row * columns + column;
    for (int i = 0; i < 4; ++i) value[i] = 0;
    for (int split = 0; split < splits; ++split, from += split_elements) {
      Compute<T> part[4];
      if (columns % 4 == 0) {
        load_four(from, part);
      } else {
#pragma unroll
        for (int i = 0; i < 4; ++i) part[i] = i < count ? from[i] : Compute<T>{0};
      }
      add_four(value, part);
    }
  }
};

// A matrix in memory.
template <typename T>
struct StoredProduct {
  const T* product;
  int64_t stride;
  bool fours;

  __device__ __forceinline__ void load(int64_t row, int64_t column, int count, Compute<T> (&value)[4]) const {
    const T* const from = product + row * stride + column;
    if (fours && count == 4) {
      load_four(from, value);
    } else {
#pragma unroll
      for (int i = 0; i < 4; ++i) value[i] = i < count ? widen(from[i]) : Compute<T>{0};
    }
  }
};

// How many columns a thread takes, and what it keeps of them: `from(index)` for the elements from there on.
struct KeepAll {
  static constexpr int kColumns = 4;

  __device__ AllKept from(int64_t) const { return {}; }
};

// Eight, as a Philox block serves so many.
template <typename C>
struct KeepSome {
  static constexpr int kColumns = 8;

  struct Kept {
    uint32_t bits;
    C scale;

    __device__ C operator()(int index, C value) const { return bits >> index & 1u ? value * scale : C{0}; }
  };

  DropoutMask mask;

  __device__ Kept from(int64_t index) const {
    const int shift = static_cast<int>(index & 7);
    uint32_t bits = kept_of_group(mask, index >> 3);
    if (shift != 0) bits = bits >> shift | kept_of_group(mask, (index >> 3) + 1) << (8 - shift);
    return {bits, static_cast<C>(mask.scale)};
  }
};

constexpr int kFinishColumns = 32, kFinishRows = 8;  // of threads

template <typename T, typename Source, typename Keep>
__global__ void __launch_bounds__(kFinishColumns* kFinishRows, 4)
    finish_product(const Source source, const GemmOutput<T> out, const DeviceCount rows_there, const Keep keep) {
  const int64_t first = (int64_t{blockIdx.x} * kFinishColumns + threadIdx.x) * Keep::kColumns;
  if (first >= out.columns) return;
  const int64_t rows = size_there(out.rows, rows_there);
  for (int64_t row = int64_t{blockIdx.y} * kFinishRows + threadIdx.y; row < rows;
       row += int64_t{gridDim.y} * kFinishRows) {
    const auto kept = keep.from(row * out.columns + first);
#pragma unroll
    for (int four = 0; four < Keep::kColumns; four += 4) {
      const int64_t column = first + four;
      if (column >= out.columns) break;
      const int count = limited(out.columns - column, 4);
      Compute<T> value[4];
      source.load(row, column, count, value);
      if (out.fours && count == 4) {
        finish_four(out, row, column, value, kept, four);
      } else {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          if (i < count) finish_one(out, row, column + i, value[i], kept, four + i);
        }
      }
    }
  }
}

template <typename T, typename Source, typename Keep>
Status launch_finish(const Context& context, const Source& source, const GemmOutput<T>& out,
                     const DeviceCount& rows_there, const Keep& keep) {
  constexpr int64_t kBlockColumns = int64_t{kFinishColumns} * Keep::kColumns;
  const int64_t blocks_x = (out.columns + kBlockColumns - 1) / kBlockColumns;
  const int64_t blocks_y = std::min<int64_t>((out.rows + kFinishRows - 1) / kFinishRows, 65535);
  const LaunchShape shape = {"matrix_product", dim3(static_cast<unsigned>(blocks_x), static_cast<unsigned>(blocks_y)),
                             dim3(kFinishColumns, kFinishRows), 0, context.stream};
  return launch(shape, finish_product<T, Source, Keep>, source, out, rows_there, keep);
}

template <typename T, typename Source>
Status launch_finish(const Context& context, const Source& source, const GemmOutput<T>& out,
                     const DeviceCount& rows_there, const DropoutMask& mask) {
  if (mask.scale == 1) return launch_finish<T>(context, source, out, rows_there, KeepAll{});
  return launch_finish<T>(context, source, out, rows_there, KeepSome<Compute<T>>{mask});
}

}  // namespace xlformers::cuda
