// x W^T with few rows of x (decoding): the weight is read once, straight into registers, and the time is that of
// reading it.
//
// A block of 8 warps computes all rows of a few columns, which are neighbouring lines of W. The warps share out the
// inner dimension in turns, and their sums are added up in the order of the warps.
//
// H100, 16 x 1024 x 4096 (bf16, rows x columns x inner): W is 8.4 MB, 2.8 us at 3.0 TB/s; 0.13 GFLOP. 128 blocks with 4
// loads of 16 bytes per thread under way are 2.1 MB, about what 700 ns of latency take at that rate: expected 4 us with
// the launch.
//
// What layer_norm makes of few rows the block can make itself, while its first lines of W are under way. Launching a
// kernel for it costs 1 us in a graph, and as much the kernel's own latencies: sums from the L2 cache, two sums over a
// block, weight and bias from memory. Here the latter are asked for before W; what is left, 0.5 us for two rows and 0.9
// for four, is behind the 0.8 to 1.4 us that the first lines of W take. (The product before it could also do it, by the
// block that comes last: but a fence, an atomic and a fence are 0.6 us, and nothing is behind them.) Each block makes
// all rows, and so reads x and residual, two rows for one: with 4 rows and 4096 columns 512 x 16 KB = 8.4 MB from the
// L2 cache, as much as W: both are there in 3.0 us at 5.5 TB/s, W from memory in 2.8. With 8 rows they would take 4.6
// us: the launch is lost again.
#pragma once

#include "cuda/gemm_epilogue.cuh"
#include "cuda/layer_norm.cuh"

namespace xlformers::cuda {

constexpr int kFewRowsThreads = 256, kFewRowsWarps = kFewRowsThreads / 32;

// 8 elements of 16 bits, of which `valid` are there; zeros for the others.
template <typename T>
__device__ __forceinline__ uint4 load_eight(const T* from, int valid, int width) {
  if (valid == 8 && width == 8) return *reinterpret_cast<const uint4*>(from);
  uint32_t words[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int left = limited(valid - 2 * i, 2);
    if (left == 2 && width == 2) {
      words[i] = reinterpret_cast<const uint32_t*>(from)[i];
    } else {
      words[i] = (left > 0 ? bits_of(from[2 * i]) : 0) | (left > 1 ? bits_of(from[2 * i + 1]) : 0) << 16;
    }
  }
  return make_uint4(words[0], words[1], words[2], words[3]);
}

// Where x comes from: begin() is called before the first lines of W are asked for, make() after that. Here x lies in
// memory.
template <typename T>
struct StoredRows {
  static constexpr int kMost = sizeof(T) == 2 ? kFewTensorRows : kFewFloatRows;

  __device__ void begin() const {}
  __device__ void make(GemmOperand<T>*) const {}
};

// x is y of a layer norm, which the kernel also leaves in memory. Dynamic shared memory: all rows.
template <typename T>
struct NormedRows {
  static constexpr int kMost = kNormedRows;

  LayerNormArgs<T> norm;

  __device__ __forceinline__ void begin() const {
    constexpr int kLine = 128 / static_cast<int>(sizeof(T));
    for (int64_t i = int64_t{threadIdx.x} * kLine; i < norm.columns; i += kFewRowsThreads * kLine) {
      prefetch(norm.weight + i);
      prefetch(norm.bias + i);
    }
  }

  __device__ __forceinline__ void make(GemmOperand<T>* x) const {
    XL_DYNAMIC_SHARED(shared_bytes);
    T* const rows = reinterpret_cast<T*>(shared_bytes);
    constexpr int kGroups = kFewRowsThreads / kRowThreads;  // each a row at a time
    for (int64_t row = threadIdx.x / kRowThreads; row < norm.rows; row += kGroups) {
      T* const y = rows + row * norm.columns;
      if (norm.packed) {
        norm_row<true, 0, kGroups>(norm, row, y);
      } else {
        norm_row<false, 0, kGroups>(norm, row, y);
      }
    }
    __syncthreads();
    if (blockIdx.x == 0) {
      for (int64_t i = threadIdx.x; i < norm.rows * norm.columns; i += kFewRowsThreads) norm.y[i] = rows[i];
    }
    x->data = rows;
  }
};

constexpr int kTensorColumns = 8;  // of a block

// mma.m16n8k16 adds up over k in any order, as long as both operands agree: thread t of a quad loads inner elements [8
// t, 8 t + 8) of a run of 32, which serve as elements (2 t, 2 t + 1, 2 t + 8, 2 t + 9) of two instructions. No shared
// memory, no shuffles. kRows: 8 or 16 rows of x.
template <typename T, int kRows, typename Rows>
__global__ void __launch_bounds__(kFewRowsThreads, 2)
    multiply_few_rows_by_tensor_cores(const GemmProblem<T> problem, const GemmOutput<T> out, const Rows rows) {
  constexpr int kRun = 32, kAhead = 4;  // runs whose loads are under way together
  XL_SHARED(parts, float[kFewRowsWarps][16 * kTensorColumns]);
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int group = lane / 4, in_group = lane % 4;
  const int64_t first_column = int64_t{blockIdx.x} * kTensorColumns;
  const auto load = [&](const GemmOperand<T>& operand, int64_t line, int64_t k) {
    const int valid = line < operand.size ? limited(problem.inner - k, 8) : 0;
    return load_eight(valid == 0 ? operand.data : operand.data + line * operand.stride + k, valid, operand.width);
  };

  float sums[4] = {};
  constexpr int64_t kTurn = int64_t{kFewRowsWarps} * kRun;
  const int64_t first_k = warp * kRun + in_group * 8;
  uint4 w[kAhead];
  const auto load_w = [&](int64_t k) {
#pragma unroll
    for (int i = 0; i < kAhead; ++i) w[i] = load(problem.b, first_column + group, k + i * kTurn);
  };
  rows.begin();
  load_w(first_k);
  GemmOperand<T> x = problem.a;
  rows.make(&x);
  for (int64_t k = first_k, run = warp * kRun; run < problem.inner; run += kAhead * kTurn, k += kAhead * kTurn) {
    if (run >= kAhead * kTurn) load_w(k);
    uint4 low[kAhead], high[kAhead];
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      low[i] = load(x, group, k + i * kTurn);
      high[i] = kRows > 8 ? load(x, group + 8, k + i * kTurn) : make_uint4(0, 0, 0, 0);
    }
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const uint32_t first[4] = {low[i].x, high[i].x, low[i].y, high[i].y},
                     second[4] = {low[i].z, high[i].z, low[i].w, high[i].w};
      mma_m16n8k16<T>(sums, first, w[i].x, w[i].y);
      mma_m16n8k16<T>(sums, second, w[i].z, w[i].w);
    }
  }

  float* const part = parts[warp] + group * kTensorColumns + 2 * in_group;
  part[0] = sums[0], part[1] = sums[1];
  part[8 * kTensorColumns] = sums[2], part[8 * kTensorColumns + 1] = sums[3];
  __syncthreads();
  const int element = static_cast<int>(threadIdx.x);
  const int64_t row = element / kTensorColumns, column = first_column + element % kTensorColumns;
  if (element >= kRows * kTensorColumns || row >= out.rows || column >= out.columns) return;
  float sum = 0;
#pragma unroll
  for (int i = 0; i < kFewRowsWarps; ++i) sum += parts[i][element];
  finish_one(out, row, column, sum);
}

constexpr int kFloatColumns = 4;  // of a block

// Adds up kCount numbers over the lanes of a warp that are a multiple of kNearest apart: with each exchange half of the
// numbers, or half of the lanes, are left. values[0] is then the sum of number `warp_sum_index` in every lane, and
// values[i] of those after it, where there are more numbers than lanes.
template <int kNearest = 1, int kCount>
__device__ __forceinline__ void warp_sums(float (&values)[kCount], int lane) {
  int count = kCount;
#pragma unroll
  for (int distance = 16; distance >= kNearest; distance /= 2) {
    if (count > 1) {
      count /= 2;
      const bool upper = (lane & distance) != 0;
#pragma unroll
      for (int i = 0; i < kCount / 2; ++i) {
        if (i >= count) continue;
        const float given = upper ? values[i] : values[i + count];
        const float kept = upper ? values[i + count] : values[i];
        values[i] = kept + __shfl_xor_sync(0xFFFFFFFFu, given, distance);
      }
    } else {
      values[0] += __shfl_xor_sync(0xFFFFFFFFu, values[0], distance);
    }
  }
}

template <int kCount, int kNearest = 1>
__device__ __forceinline__ int warp_sum_index(int lane) {
  int index = 0;
  for (int count = kCount, distance = 16; count > 1 && distance >= kNearest; count /= 2, distance /= 2)
    index += (lane & distance) != 0 ? count / 2 : 0;
  return index;
}

// kRows: 1, 2, 4 or 8 rows of x. A lane takes four inner elements of each of the block's lines of W and of all rows of
// x, which are in the cache.
template <int kRows, typename Rows>
__global__ void __launch_bounds__(kFewRowsThreads, 2)
    multiply_few_rows_in_registers(const GemmProblem<float> problem, const GemmOutput<float> out, const Rows rows) {
  constexpr int kSums = kRows * kFloatColumns;
  XL_SHARED(parts, float[kFewRowsWarps][kSums]);
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t first_column = int64_t{blockIdx.x} * kFloatColumns;
  const auto load = [&](const GemmOperand<float>& operand, int64_t line, int64_t k, float(&values)[4]) {
    const int valid = line < operand.size ? limited(problem.inner - k, 4) : 0;
    const float* const from = operand.data + line * operand.stride + k;
    if (valid == 4 && operand.width == 4) {
      load_four(from, values);
    } else {
#pragma unroll
      for (int i = 0; i < 4; ++i) values[i] = i < valid ? from[i] : 0.0f;
    }
  };

  float sums[kSums] = {};
  const int64_t first_k = static_cast<int64_t>(threadIdx.x) * 4;
  float w[kFloatColumns][4];
  const auto load_w = [&](int64_t k) {
#pragma unroll
    for (int j = 0; j < kFloatColumns; ++j) load(problem.b, first_column + j, k, w[j]);
  };
  rows.begin();
  load_w(first_k);
  GemmOperand<float> x_rows = problem.a;
  rows.make(&x_rows);
  for (int64_t k = first_k; k < problem.inner; k += kFewRowsThreads * 4) {
    if (k > first_k) load_w(k);
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      float x[4];
      load(x_rows, i, k, x);
#pragma unroll
      for (int j = 0; j < kFloatColumns; ++j) {
#pragma unroll
        for (int step = 0; step < 4; ++step) sums[i * kFloatColumns + j] += x[step] * w[j][step];
      }
    }
  }
  warp_sums(sums, lane);
  // Lanes that hold the same number store the same value; one of them does.
  constexpr int kCopies = 32 / kSums;
  if (lane % kCopies == 0) parts[warp][warp_sum_index<kSums>(lane)] = sums[0];
  __syncthreads();
  const int element = static_cast<int>(threadIdx.x);
  const int64_t row = element / kFloatColumns, column = first_column + element % kFloatColumns;
  if (element >= kSums || row >= out.rows || column >= out.columns) return;
  float sum = 0;
#pragma unroll
  for (int i = 0; i < kFewRowsWarps; ++i) sum += parts[i][element];
  finish_one(out, row, column, sum);
}

}  // namespace xlformers::cuda
