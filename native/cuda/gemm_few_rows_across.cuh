// x W with few rows of x, where the lines of W are inner elements: the projections of the adaptive softmax, and
// XLNet's.
//
// A block of 8 warps computes all rows of as many columns as 32 bytes have, the least that memory gives: two lanes take
// one line of W, 16 bytes each. Sums are added up over the lanes of a warp, then in the order of the warps.
//
// H100, 1 x 1024 x 1024 (bf16): W is 2.1 MB, all of it under way at once: 64 blocks with 8 loads of 16 bytes per
// thread. Expected 1.5 us with the launch, most of it the latency of memory; 4 rows no more. Up to 4096 lines are four
// such rounds, 4 us for a single block: as tiles in parts and a kernel that sums them up.
#pragma once

#include "cuda/gemm_few_rows.cuh"
#include "cuda/pack.cuh"

namespace xlformers::cuda {

// Columns of a block.
template <typename T>
constexpr int kColumnsAcross = 2 * kWidestLoad<T>;

// kRows: 1 or 4 rows of x.
template <typename T, int kRows>
__global__ void __launch_bounds__(kFewRowsThreads)
    multiply_few_rows_across(const GemmProblem<T> problem, const GemmOutput<T> out) {
  constexpr int kVector = kWidestLoad<T>, kColumns = kColumnsAcross<T>;
  constexpr int kAhead = 8, kTurn = kFewRowsThreads / 2;  // loads under way together, lines of W a turn
  constexpr int kSums = kRows * kVector, kLanes = 16;     // of a warp, with the same columns
  XL_SHARED(parts, float[kFewRowsWarps][2][kSums]);
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32, half = thread % 2;
  const int64_t first_column = int64_t{blockIdx.x} * kColumns, own_column = first_column + half * kVector;
  const int valid = limited(problem.b.size - own_column, kVector);

  float sums[kSums] = {};
  for (int64_t k = thread / 2; k < problem.inner; k += kAhead * kTurn) {
    Pack<T, kVector> w[kAhead];
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const int64_t line = k + i * kTurn;
      const T* const from = problem.b.data + line * problem.b.stride + own_column;
      w[i] = {};
      if (line >= problem.inner) continue;
      if (valid == kVector && problem.b.width == kVector) {
        w[i] = load_pack<kVector>(from);
      } else {
#pragma unroll
        for (int j = 0; j < kVector; ++j) {
          if (j < valid) w[i].value[j] = from[j];
        }
      }
    }
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const int64_t line = k + i * kTurn;
#pragma unroll
      for (int row = 0; row < kRows; ++row) {
        const bool there = line < problem.inner && row < problem.a.size;
        const float x = there ? widen(problem.a.data[row * problem.a.stride + line]) : 0.0f;
#pragma unroll
        for (int j = 0; j < kVector; ++j) sums[row * kVector + j] += x * widen(w[i].value[j]);
      }
    }
  }
  warp_sums<2>(sums, lane);
  // Lanes that hold the same numbers store the same values; one of them does.
  constexpr int kLeft = kSums > kLanes ? kSums / kLanes : 1, kCopies = kSums < kLanes ? kLanes / kSums : 1;
  if (lane / 2 % kCopies == 0) {
    const int index = warp_sum_index<kSums, 2>(lane);
#pragma unroll
    for (int i = 0; i < kLeft; ++i) parts[warp][half][index + i] = sums[i];
  }
  __syncthreads();
  const int64_t row = thread / kColumns, column = first_column + thread % kColumns;
  if (thread >= kRows * kColumns || row >= out.rows || column >= out.columns) return;
  const int of_half = thread % kColumns / kVector, number = static_cast<int>(row) * kVector + thread % kVector;
  float sum = 0;
#pragma unroll
  for (int i = 0; i < kFewRowsWarps; ++i) sum += parts[i][of_half][number];
  finish_one(out, row, column, sum);
}

}  // namespace xlformers::cuda
