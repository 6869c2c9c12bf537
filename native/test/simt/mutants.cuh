// A kernel with the habits of real ones, and ways to break it: what the emulator is for is to tell them apart.
#pragma once

#include "cuda/device.cuh"

namespace xlformers::cuda {

enum class Mutation {
  none,
  // Barriers
  no_barrier_after_load,   // tiles are used before other warps have loaded their part
  no_barrier_before_load,  // a tile is overwritten while other warps still use it
  no_barrier_before_sum,   // partial sums are read before they are written
  barrier_for_some,        // the last warp does not come
  no_warp_barrier,         // lanes exchange through shared memory without __syncwarp
  warp_barrier_for_some,   // the last lane does not come
  // cp.async
  no_wait,
  waits_too_little,  // one group too early
  no_commit,
  // Fragments
  a_registers_swapped,
  b_registers_swapped,
  b_not_transposed,
  rows_of_another_matrix,  // addresses for ldmatrix in the wrong order
  accumulator_rows_swapped,
  row_stride_off_16,  // rows in shared memory not aligned for ldmatrix
  // Warps
  wrong_quad_lane,  // a reduction over the wrong lanes
  mask_too_narrow,  // a shuffle with half of its lanes
  // Device memory
  no_zero_fill,      // the columns beyond the end are read
  one_row_too_many,  // a store beyond the last row
  sum_without_atomics,
  writes_input,
  misaligned_vector,
};

struct MutantArgs {
  const __nv_bfloat16* a;  // [rows, depth], depth a multiple of 8
  const __nv_bfloat16* b;  // [depth, 32]
  float* c;                // [rows, 32]
  float* row_max;          // [rows]
  float* column_sum;       // [32], added to
  int rows, depth;
};

constexpr int kMutantRows = 64, kMutantColumns = 32, kMutantDepth = 32;
constexpr size_t kMutantShared = 2 * (kMutantRows * (kMutantDepth + 8) + kMutantDepth * (kMutantColumns + 8)) * 2;

// C = A B by tiles of 64 rows and 32 steps of depth, two in flight; the largest value of each row; sums over columns.
template <Mutation mutation>
__global__ void __launch_bounds__(128) mutant(MutantArgs args) {
  constexpr auto is = [](Mutation one) { return mutation == one; };
  constexpr int kRowA = kMutantDepth + (is(Mutation::row_stride_off_16) ? 4 : 8), kRowB = kMutantColumns + 8;
  XL_DYNAMIC_SHARED(memory);
  __nv_bfloat16* tiles_a = reinterpret_cast<__nv_bfloat16*>(memory);
  __nv_bfloat16* tiles_b = tiles_a + 2 * kMutantRows * (kMutantDepth + 8);
  XL_SHARED(partial_sums, float[4][kMutantColumns]);
  XL_SHARED(exchange, float[4][32]);

  const int thread = static_cast<int>(threadIdx.x), lane = thread & 31, warp = thread >> 5;
  const int g = lane >> 2, t = lane & 3;
  const int first_row = static_cast<int>(blockIdx.x) * kMutantRows;
  const int steps = (args.depth + kMutantDepth - 1) / kMutantDepth;

  const auto load = [&](int step) {
    __nv_bfloat16* a = tiles_a + (step & 1) * kMutantRows * (kMutantDepth + 8);
    __nv_bfloat16* b = tiles_b + (step & 1) * kMutantDepth * kRowB;
    constexpr int kBytes = is(Mutation::row_stride_off_16) ? 8 : 16, kElements = kBytes / 2;
    for (int i = thread; i < kMutantRows * kMutantDepth / kElements; i += 128) {
      const int row = i / (kMutantDepth / kElements), column = i % (kMutantDepth / kElements) * kElements;
      const int from_row = first_row + row, from_column = step * kMutantDepth + column;
      const bool inside = from_row < args.rows && (from_column < args.depth || is(Mutation::no_zero_fill));
      cp_async<kBytes>(a + row * kRowA + column,
                       inside ? args.a + static_cast<size_t>(from_row) * args.depth + from_column : args.a,
                       inside ? kBytes : 0);
    }
    for (int i = thread; i < kMutantDepth * kMutantColumns / 8; i += 128) {
      const int row = i / (kMutantColumns / 8), column = i % (kMutantColumns / 8) * 8,
                from_row = step * kMutantDepth + row;
      const bool inside = from_row < args.depth;
      cp_async<16>(b + row * kRowB + column, inside ? args.b + from_row * kMutantColumns + column : args.b,
                   inside ? 16 : 0);
    }
    if constexpr (!is(Mutation::no_commit)) cp_async_commit();
  };

  float c[4][4] = {};
  load(0);
  for (int step = 0; step < steps; ++step) {
    if (step + 1 < steps) load(step + 1);
    if constexpr (!is(Mutation::no_wait)) {
      if (step + 1 < steps && !is(Mutation::waits_too_little)) {
        cp_async_wait<1>();
      } else if (step + 1 < steps) {
        cp_async_wait<2>();
      } else {
        cp_async_wait<0>();
      }
    }
    if constexpr (is(Mutation::barrier_for_some)) {
      if (warp < 3) __syncthreads();
    } else if constexpr (!is(Mutation::no_barrier_after_load)) {
      __syncthreads();
    }
    const __nv_bfloat16* a = tiles_a + (step & 1) * kMutantRows * (kMutantDepth + 8);
    const __nv_bfloat16* b = tiles_b + (step & 1) * kMutantDepth * kRowB;
#pragma unroll
    for (int k = 0; k < kMutantDepth; k += 16) {
      uint32_t fragment[4];
      const int row = is(Mutation::rows_of_another_matrix) ? (lane >> 4) * 8 + (lane & 7) : lane & 15;
      const int column = is(Mutation::rows_of_another_matrix) ? (lane >> 3 & 1) * 8 : (lane >> 4) * 8;
      ldmatrix(fragment, a + (warp * 16 + row) * kRowA + k + column);
      if constexpr (is(Mutation::a_registers_swapped)) {
        const uint32_t second = fragment[1];
        fragment[1] = fragment[2];
        fragment[2] = second;
      }
#pragma unroll
      for (int n = 0; n < 4; n += 2) {
        uint32_t pair[4];
        const __nv_bfloat16* rows = b + (k + (lane & 15)) * kRowB + n * 8 + (lane >> 4) * 8;
        if constexpr (is(Mutation::b_not_transposed)) {
          ldmatrix(pair, rows);
        } else {
          ldmatrix_transposed(pair, rows);
        }
        constexpr int kFirst = is(Mutation::b_registers_swapped) ? 1 : 0;
        mma_m16n8k16<__nv_bfloat16>(c[n], fragment, pair[kFirst], pair[1 - kFirst]);
        mma_m16n8k16<__nv_bfloat16>(c[n + 1], fragment, pair[2 + kFirst], pair[3 - kFirst]);
      }
    }
    if constexpr (!is(Mutation::no_barrier_before_load)) __syncthreads();
  }

  // Rows: quads hold eight values of two rows each.
  constexpr uint32_t kMask = 0xFFFFFFFFu;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = first_row + warp * 16 + g + 8 * (is(Mutation::accumulator_rows_swapped) ? 1 - half : half);
    float largest = c[0][2 * half];
#pragma unroll
    for (int n = 0; n < 4; ++n) largest = fmaxf(largest, fmaxf(c[n][2 * half], c[n][2 * half + 1]));
    if constexpr (is(Mutation::mask_too_narrow)) {
      largest = fmaxf(largest, __shfl_xor_sync(lane < 16 ? 0x0000FFFFu : kMask, largest, 1));
    } else {
      largest = fmaxf(largest, __shfl_xor_sync(kMask, largest, is(Mutation::wrong_quad_lane) ? 4 : 1));
    }
    largest = fmaxf(largest, __shfl_xor_sync(kMask, largest, 2));
    if (row < args.rows + (is(Mutation::one_row_too_many) ? 1 : 0)) {
      if (t == 0) args.row_max[row] = largest;
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        float* to = args.c + static_cast<size_t>(row) * kMutantColumns + n * 8 + 2 * t;
        if constexpr (is(Mutation::misaligned_vector)) to += 1 - 2 * (t & 1);
        *reinterpret_cast<float2*>(to) = make_float2(c[n][2 * half], c[n][2 * half + 1]);
      }
    }
  }

  // Columns: over the rows of a warp by shuffles, then over warps; rows beyond the end are zero.
#pragma unroll
  for (int n = 0; n < 4; ++n) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float sum = c[n][i] + c[n][2 + i];
      for (int distance = 4; distance < 32; distance *= 2) sum += __shfl_xor_sync(kMask, sum, distance);
      if (g == 0) exchange[warp][n * 8 + 2 * t + i] = sum;
    }
  }
  if constexpr (is(Mutation::warp_barrier_for_some)) {
    if (lane < 31) __syncwarp();
  } else if constexpr (!is(Mutation::no_warp_barrier)) {
    __syncwarp();
  }
  partial_sums[warp][lane] = exchange[warp][31 - lane];
  if constexpr (!is(Mutation::no_barrier_before_sum)) __syncthreads();
  if (thread < kMutantColumns) {
    float sum = 0;
    for (int w = 0; w < 4; ++w) sum += partial_sums[w][31 - thread];
    if constexpr (is(Mutation::sum_without_atomics)) {
      args.column_sum[thread] += sum;
    } else {
      atomicAdd(args.column_sum + thread, sum);
    }
  }
  if constexpr (is(Mutation::writes_input)) {
    if (thread == 0) const_cast<__nv_bfloat16*>(args.a)[0] = from_float<__nv_bfloat16>(0.0f);
  }
}

}  // namespace xlformers::cuda
