// Which of the own kernels multiplies two matrices, and in how many parts of the inner dimension: a function of the
// shape and of the device's size alone, so that a device always gives the same result.
#pragma once

#include <cstdint>

#include "core/operators.h"

namespace xlformers::cuda {

enum class GemmKernel : int32_t {
  few_rows,    // gemm_few_rows.cuh, gemm_few_rows_across.cuh: reads the weight once, as fast as memory gives it
  large_tile,  // 128 x 128 per block
  small_tile,  // 64 x 64
};

struct GemmPlan {
  GemmKernel kernel;
  int32_t splits;       // blocks that share a tile, each with a part of the inner dimension; 1 for few_rows
  int64_t split_inner;  // of all parts but the last: a multiple of the kernel's step
};

// Of some number of rows, only the first *count - begin are there (a group whose size the device finds); null: all.
struct DeviceCount {
  const int32_t* count;
  int64_t begin;
};

constexpr int64_t large_tile = 128, small_tile = 64;

// Rows of x that the few_rows kernels take at most: of x W^T by tensor cores, in float, none in double; of x W; and
// those that they make by a layer norm.
constexpr int kFewTensorRows = 16, kFewFloatRows = 8, kFewRowsAcross = 4, kNormedRows = 4;

// Elements of the inner dimension that a block loads at a time.
constexpr int64_t gemm_step(DType dtype) { return dtype == DType::f32 || dtype == DType::f64 ? 16 : 32; }

// Whether the few_rows kernels can: x W^T or x W of few enough rows of x.
bool takes_few_rows(const MatrixProductParams& params);

// Whether the few_rows kernels can make their x by this layer norm, which nothing has run yet (multiply_normed): y of
// few rows, without dropout or statistics for a gradient, is x, and it makes no difference to anything else that they
// run together.
bool takes_norm(const MatrixProductParams& params, const LayerNormParams& norm);

GemmPlan plan_gemm(const MatrixProductParams& params, int32_t multiprocessors);

}  // namespace xlformers::cuda
