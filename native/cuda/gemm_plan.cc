#include "cuda/gemm_plan.h"

#include <algorithm>

namespace xlformers::cuda {
namespace {

constexpr int64_t kMaxSplits = 32;
constexpr int64_t kFewestSteps = 4;                      // of a part: below, filling the pipeline is most of the work
constexpr int64_t kMaxPartialBytes = int64_t{64} << 20;  // of scratch memory
// Clock cycles. A block's first loads and its epilogue; a launch more for adding up the parts.
constexpr double kBlockCycles = 1500, kLaunchCycles = 4000;
constexpr double kBytesPerCycle = 16;  // of a multiprocessor's share of memory

struct Tile {
  GemmKernel kernel;
  int64_t size;
  int64_t blocks;        // that fit on a multiprocessor
  double multiply_adds;  // of a multiprocessor per cycle
};

// Tensor cores: 1024 a cycle where shared memory keeps up (A100; H100 by mma.sync about 1250). Float: 128.
constexpr Tile kTensorTiles[] = {{GemmKernel::large_tile, large_tile, 2, 900},
                                 {GemmKernel::small_tile, small_tile, 4, 500}};
constexpr Tile kFloatTiles[] = {{GemmKernel::large_tile, large_tile, 2, 100},
                                {GemmKernel::small_tile, small_tile, 4, 60}};
constexpr Tile kDoubleTiles[] = {{GemmKernel::small_tile, small_tile, 2, 30}};

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

struct Candidates {
  const Tile* first;
  const Tile* end;
};

Candidates candidates(DType dtype) {
  if (dtype == DType::f64) return {kDoubleTiles, kDoubleTiles + 1};
  if (dtype == DType::f32) return {kFloatTiles, kFloatTiles + 2};
  return {kTensorTiles, kTensorTiles + 2};
}

struct Bytes {
  uintptr_t begin, end;

  static Bytes of(const void* first, int64_t count) {
    const auto begin = reinterpret_cast<uintptr_t>(first);
    return {begin, first == nullptr ? begin : begin + static_cast<uintptr_t>(count)};
  }
  bool meets(const Bytes& other) const { return begin < other.end && other.begin < end; }
};

constexpr int64_t kMostLinesAcross = 4096;               // of W, which no two blocks share: more are faster in parts
constexpr int64_t kMostNormedBytes = int64_t{32} << 10;  // of shared memory, which every device has

}  // namespace

bool takes_few_rows(const MatrixProductParams& params) {
  if (params.transpose_a || params.dtype == DType::f64) return false;
  if (!params.transpose_b) return params.rows <= kFewRowsAcross && params.inner <= kMostLinesAcross;
  return params.rows <= (params.dtype == DType::f32 ? kFewFloatRows : kFewTensorRows);
}

bool takes_norm(const MatrixProductParams& params, const LayerNormParams& norm) {
  const int64_t rows = norm.rows, columns = norm.columns, size = static_cast<int64_t>(dtype_size(norm.dtype));
  if (params.a != norm.y || params.a_stride != columns || params.inner != columns || params.rows != rows) return false;
  if (params.dtype != norm.dtype || params.c_dtype != norm.dtype || !takes_few_rows(params) || !params.transpose_b)
    return false;
  if (params.packed_b || params.dropout > 0) return false;
  if (rows <= 0 || rows > kNormedRows || columns <= 0 || params.columns <= 0) return false;
  if (rows * columns * size > kMostNormedBytes) return false;
  if (norm.dropout > 0 || norm.sum != nullptr || norm.mean != nullptr || norm.rstd != nullptr) return false;
  // Blocks write while others read: what is written, by itself.
  const auto bytes = [&](const void* first, int64_t lines, int64_t length, int64_t stride) {
    return Bytes::of(first, ((lines - 1) * stride + length) * size);
  };
  const auto result = [&](const void* c) { return bytes(c, rows, params.columns, params.c_stride); };
  const Bytes y = bytes(norm.y, rows, columns, columns);
  const Bytes product_reads[] = {bytes(params.b, params.columns, columns, params.b_stride),
                                 bytes(params.bias, 1, params.columns, 0),
                                 bytes(params.residual, rows, params.columns, params.residual_stride)};
  const Bytes norm_reads[] = {bytes(norm.x, rows, columns, columns), bytes(norm.residual, rows, columns, columns),
                              bytes(norm.weight, 1, columns, 0), bytes(norm.bias, 1, columns, 0)};
  for (const Bytes& written : {result(params.c), result(params.pre_activation)}) {
    if (written.meets(y)) return false;
    for (const Bytes& read : norm_reads) {
      if (written.meets(read)) return false;
    }
  }
  for (const Bytes& read : product_reads) {
    if (read.meets(y)) return false;
  }
  return true;
}

GemmPlan plan_gemm(const MatrixProductParams& params, int32_t multiprocessors) {
  const int64_t step = gemm_step(params.dtype);
  const int64_t steps = divide_up(params.inner, step);
  if (takes_few_rows(params)) return {GemmKernel::few_rows, 1, steps * step};
  const double elements = static_cast<double>(params.rows) * static_cast<double>(params.columns);
  const double sum_bytes = params.dtype == DType::f64 ? 8 : 4;
  const Candidates tiles = candidates(params.dtype);
  GemmPlan best{};
  double best_cycles = 0;
  for (const Tile* tile = tiles.first; tile != tiles.end; ++tile) {
    const int64_t count = divide_up(params.rows, tile->size) * divide_up(params.columns, tile->size);
    const int64_t slots = tile->blocks * multiprocessors;
    const double step_cycles = static_cast<double>(tile->size * tile->size * step * tile->blocks) / tile->multiply_adds;
    for (int64_t wanted = 1; wanted <= std::min(kMaxSplits, std::max<int64_t>(steps / kFewestSteps, 1)); ++wanted) {
      const int64_t split_steps = std::max<int64_t>(divide_up(steps, wanted), 1);
      const int64_t splits = std::max<int64_t>(divide_up(steps, split_steps), 1);
      const double partial_bytes = static_cast<double>(splits) * elements * sum_bytes;
      if (splits > 1 && partial_bytes > static_cast<double>(kMaxPartialBytes)) break;
      const auto waves = static_cast<double>(divide_up(count * splits, slots));
      double cycles = waves * (static_cast<double>(split_steps) * step_cycles + kBlockCycles);
      if (splits > 1) cycles += kLaunchCycles + 2 * partial_bytes / (kBytesPerCycle * multiprocessors);
      if (best_cycles != 0 && cycles >= best_cycles) continue;
      best_cycles = cycles;
      best = {tile->kernel, static_cast<int32_t>(splits), split_steps * step};
    }
  }
  return best;
}

}  // namespace xlformers::cuda
