// Tiles of attention for the tensor cores: how rows come into shared memory and from there into the fragments of mma m16n8k16.
//
// Rows of a tile lie kHeadStride(D) elements apart: an odd number of 16-byte pieces, so that ldmatrix meets no bank conflict.
// A lane holds, of an accumulator [16, 8], rows lane / 4 and lane / 4 + 8, columns 2 (lane % 4) and the next.
#pragma once

#include "cuda/numeric.cuh"

namespace xlformers::cuda {

__host__ __device__ constexpr int head_stride(int head_dim) { return head_dim + 8; }

__device__ __forceinline__ int lane_index() { return static_cast<int>(threadIdx.x) % 32; }
__device__ __forceinline__ int warp_index() { return static_cast<int>(threadIdx.x) / 32; }
__device__ __forceinline__ int fragment_row() { return lane_index() / 4; }
__device__ __forceinline__ int fragment_column() { return lane_index() % 4 * 2; }

// Starts copying `rows` rows of `columns` columns (a multiple of 8, 16-byte aligned) to place(i), zeros up to D. row(i) null: zeros.
// `valid`: any aligned address of the operand. kOneByOne: no registers are left for the addresses of several pieces.
template <int D, int kThreads, bool kOneByOne = (D > 128), typename T, typename RowAt, typename PlaceOf>
__device__ __forceinline__ void copy_rows(int rows, int columns, const T* valid, const RowAt& row, const PlaceOf& place) {
  constexpr int kPieces = D / 8;
  const auto copy = [&](int x) {
    const int i = x / kPieces, column = x % kPieces * 8;
    const T* const from = row(i);
    const bool present = from != nullptr && column < columns;
    cp_async<16>(place(i) + column, present ? from + column : valid, present ? 16 : 0);
  };
  const int first = static_cast<int>(threadIdx.x), end = rows * kPieces;
  if constexpr (kOneByOne) {
#pragma unroll 1
    for (int x = first; x < end; x += kThreads) copy(x);
  } else {
    for (int x = first; x < end; x += kThreads) copy(x);
  }
}

// The same to consecutive rows of a tile.
template <int D, int kThreads, bool kOneByOne = (D > 128), typename T, typename RowAt>
__device__ __forceinline__ void copy_tile(int rows, int columns, const T* valid, const RowAt& row, T* tile) {
  copy_rows<D, kThreads, kOneByOne>(rows, columns, valid, row, [&](int i) { return tile + i * head_stride(D); });
}

// Fragments B [16, 8] of k-steps k and k + 1, from 8 rows in shared memory: column n of B is row n.
template <int D, typename T>
__device__ __forceinline__ void load_row_pair(const T* rows, int k, uint32_t (&b)[4]) {
  ldmatrix<4>(b, rows + lane_index() % 8 * head_stride(D) + lane_index() / 8 * 8 + k * 16);
}

// The same of all k-steps 0 ... D / 16 - 1.
template <int D, typename T>
__device__ __forceinline__ void load_rows(const T* rows, uint32_t (&b)[D / 16][2]) {
#pragma unroll
  for (int k = 0; k + 1 < D / 16; k += 2) {
    uint32_t four[4];
    load_row_pair<D>(rows, k, four);
    b[k][0] = four[0], b[k][1] = four[1], b[k + 1][0] = four[2], b[k + 1][1] = four[3];
  }
  if constexpr (D / 16 % 2 == 1) {
    ldmatrix<2>(b[D / 16 - 1], rows + lane_index() % 8 * head_stride(D) + lane_index() / 8 % 2 * 8 + D - 16);
  }
}

// Fragments B [16, 8] for columns [column, column + 16) of 16 rows in shared memory, the rows being the inner dimension.
template <int D, typename T>
__device__ __forceinline__ void load_columns(const T* rows, int column, uint32_t (&b)[4]) {
  const int matrix = lane_index() / 8;
  ldmatrix_transposed<4>(b, rows + (matrix % 2 * 8 + lane_index() % 8) * head_stride(D) + column + matrix / 2 * 8);
}

// Fragments A [16, 16] of k-step k, from 16 rows in shared memory.
template <int D, typename T>
__device__ __forceinline__ void load_left(const T* rows, int k, uint32_t (&a)[4]) {
  const int matrix = lane_index() / 8;
  ldmatrix<4>(a, rows + (matrix % 2 * 8 + lane_index() % 8) * head_stride(D) + k * 16 + matrix / 2 * 8);
}

// Fragment A [16 rows, 16 queries] of a tile [query][column] in shared memory: rows are columns [column, column + 16).
template <typename T>
__device__ __forceinline__ void load_left_transposed(const T* tile, int stride, int column, uint32_t (&a)[4]) {
  const int matrix = lane_index() / 8;
  ldmatrix_transposed<4>(a, tile + (matrix / 2 * 8 + lane_index() % 8) * stride + column + matrix % 2 * 8);
}

// sums += A B over the whole head: 16 left rows and the 8 rows at `right`, in shared memory. The left rows' fragments are `held` in
// registers, or, for heads that those cannot hold (held has one), come from `left`.
template <int D, int kHeld, typename T>
__device__ __forceinline__ void multiply_rows(const uint32_t (&held)[kHeld][4], const T* left, const T* right, float (&sums)[4]) {
  if constexpr (kHeld == D / 16) {
    uint32_t b[D / 16][2];
    load_rows<D>(right, b);
#pragma unroll
    for (int k = 0; k < D / 16; ++k) mma_m16n8k16<T>(sums, held[k], b[k][0], b[k][1]);
  } else {
    static_assert(D % 32 == 0, "k-steps come in pairs");
#pragma unroll 2  // registers
    for (int k = 0; k < D / 16; k += 2) {
      uint32_t a[4], b[4];
      load_row_pair<D>(right, k, b);
      load_left<D>(left, k, a);
      mma_m16n8k16<T>(sums, a, b[0], b[1]);
      load_left<D>(left, k + 1, a);
      mma_m16n8k16<T>(sums, a, b[2], b[3]);
    }
  }
}

// Fragments A of rows in global memory: row(i) for the lane's rows i = 0 ... 15, 4-byte aligned, null: zeros; zeros from `columns` on.
template <typename T, typename RowAt>
__device__ __forceinline__ void load_left_global(const RowAt& row, int k, int columns, uint32_t (&a)[4]) {
#pragma unroll
  for (int x = 0; x < 4; ++x) {
    const T* const from = row(fragment_row() + x % 2 * 8);
    const int column = k * 16 + fragment_column() + x / 2 * 8;
    a[x] = from != nullptr && column < columns ? *reinterpret_cast<const uint32_t*>(from + column) : 0u;
  }
}

// The accumulators of 16 columns as a fragment A [16, 16].
template <typename T>
__device__ __forceinline__ void pack_left(const float (&low)[4], const float (&high)[4], uint32_t (&a)[4]) {
  a[0] = pack<T>(low[0], low[1]);
  a[1] = pack<T>(low[2], low[3]);
  a[2] = pack<T>(high[0], high[1]);
  a[3] = pack<T>(high[2], high[3]);
}

// sums += A [16, 16] times 16 rows in shared memory, over the whole head.
template <int D, typename T>
__device__ __forceinline__ void add_columns(const uint32_t (&a)[4], const T* rows, float (&sums)[D / 8][4]) {
#pragma unroll
  for (int n = 0; n < D / 8; n += 2) {
    uint32_t b[4];
    load_columns<D>(rows, 8 * n, b);
    mma_m16n8k16<T>(sums[n], a, b[0], b[1]);
    mma_m16n8k16<T>(sums[n + 1], a, b[2], b[3]);
  }
}

// The lower half of a register that holds two values.
template <typename T>
__device__ __forceinline__ float low_half(uint32_t word);
template <>
__device__ __forceinline__ float low_half<__nv_bfloat16>(uint32_t word) {
  return __bfloat162float(__ushort_as_bfloat16(static_cast<unsigned short>(word & 0xFFFFu)));
}
template <>
__device__ __forceinline__ float low_half<__half>(uint32_t word) {
  return __half2float(__ushort_as_half(static_cast<unsigned short>(word & 0xFFFFu)));
}

// Over the four lanes that share a row.
__device__ __forceinline__ float quad_sum(float value) {
  value += __shfl_xor_sync(0xFFFFFFFFu, value, 1);
  return value + __shfl_xor_sync(0xFFFFFFFFu, value, 2);
}
__device__ __forceinline__ float quad_max(float value) {
  value = fmaxf(value, __shfl_xor_sync(0xFFFFFFFFu, value, 1));
  return fmaxf(value, __shfl_xor_sync(0xFFFFFFFFu, value, 2));
}

// Two neighbours of a row of the output.
template <typename T>
__device__ __forceinline__ void store_pair(T* to, int column, int columns, bool aligned, float first, float second) {
  if (aligned) {
    if (column < columns) *reinterpret_cast<uint32_t*>(to + column) = pack<T>(first, second);
    return;
  }
  if (column < columns) to[column] = from_float<T>(first);
  if (column + 1 < columns) to[column + 1] = from_float<T>(second);
}

}  // namespace xlformers::cuda
