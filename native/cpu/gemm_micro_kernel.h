// The innermost product of matrix_product: a tile of C held in registers, C[R, V * lanes] (+)= A[R, k] B[k, V * lanes].
//
// Operands are packed (gemm_pack.h), so that both are read front to back:
//   A panel [k][a_step]: element (i, p) at p * a_step + i, i < R <= a_step; it is broadcast and multiplied with V
//   vectors of B. B panel [k][kTileColumns]: the row of step p at p * kTileColumns.
// Register budget: R * V accumulators + V vectors of B + 1 broadcast. Each step does R * V FMAs for R + V loads.
#pragma once

#include "cpu/vec.h"

XL_KERNELS_BEGIN

#if defined(__AVX512F__)
constexpr int kTileRows = 14, kTileVectors = 2;  // 28 + 2 + 1 of 32 registers
#elif defined(__AVX2__)
constexpr int kTileRows = 6, kTileVectors = 2;  // 12 + 2 + 1 of 16
#elif defined(__aarch64__)
constexpr int kTileRows = 8, kTileVectors = 3;  // 24 + 3 + 1 of 32
#else
constexpr int kTileRows = 4, kTileVectors = 2;  // 8 + 2 + 1 + products of 16, without FMA
#endif

template <typename T>
constexpr int kTileColumns = kTileVectors* kLanes<T>;

// While it computes, the kernel fetches one line of a later operand into the second-level cache every few steps: at
// `address`, address + stride, ... A burst of prefetches between the kernels would fill the buffers that the kernels'
// own loads need.
struct PrefetchLines {
  const char* address;
  int64_t stride;
};

// Steps between two lines, for a kernel of so many rows: some 30 cycles.
static constexpr int prefetch_interval(int rows) { return rows * kTileVectors >= 16 ? 2 : 4; }

// out[R, V * lanes] = (add ? out : 0) + A B over k steps.
template <typename T>
using TileKernel = void (*)(int64_t k, const T* a, int64_t a_step, const T* b, T* out, int64_t out_stride, bool add,
                            PrefetchLines lines);

template <typename T, int R, int V>
static void multiply_tile(int64_t k, const T* a, int64_t a_step, const T* b, T* out, int64_t out_stride, bool add,
                          PrefetchLines lines) {
  constexpr int lanes = kLanes<T>;
  // An FMA takes about 4 cycles and 2 start per cycle: below 8 independent sums the chain, not the throughput, sets the
  // time. Small tiles therefore keep several sums per element, one for each step modulo `chains`.
  constexpr int chains = R * V >= 8 ? 1 : (R * V >= 4 ? 2 : 4);
  constexpr int group = prefetch_interval(R);
  Vec<T> sums[chains][R][V];
#pragma GCC unroll 4
  for (int s = 0; s < chains; ++s) {
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) {
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sums[s][i][v] = Vec<T>{};
    }
  }
  int64_t p = 0;
  for (; p + group <= k; p += group) {
    __builtin_prefetch(lines.address, 0, 2);
    lines.address += lines.stride;
#pragma GCC unroll 4
    for (int s = 0; s < group; ++s) {
      Vec<T> row[V];
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) row[v] = load(b + s * kTileColumns<T> + v * lanes);
#pragma GCC unroll 16
      for (int i = 0; i < R; ++i) {
        const Vec<T> element = broadcast(a[i]);
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) sums[s % chains][i][v] += element * row[v];
      }
      a += a_step;
    }
    b += group * kTileColumns<T>;
  }
  for (; p < k; ++p) {
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) {
      const Vec<T> element = broadcast(a[i]);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sums[0][i][v] += element * load(b + v * lanes);
    }
    a += a_step;
    b += kTileColumns<T>;
  }
#pragma GCC unroll 4
  for (int half = chains / 2; half > 0; half /= 2) {
#pragma GCC unroll 4
    for (int s = 0; s < half; ++s) {
#pragma GCC unroll 16
      for (int i = 0; i < R; ++i) {
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) sums[s][i][v] += sums[s + half][i][v];
      }
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      T* address = out + i * out_stride + v * lanes;
      store(address, add ? load(address) + sums[0][i][v] : sums[0][i][v]);
    }
  }
}

template <typename T, int R, int V>
static TileKernel<T> select_tile_vectors(int vectors) {
  if constexpr (V > 1) {
    if (vectors < V) return select_tile_vectors<T, R, V - 1>(vectors);
  }
  return multiply_tile<T, R, V>;
}

// The kernel for 1 <= rows <= kTileRows and 1 <= vectors <= kTileVectors.
template <typename T, int R = kTileRows>
static TileKernel<T> select_tile_kernel(int rows, int vectors) {
  if constexpr (R > 1) {
    if (rows < R) return select_tile_kernel<T, R - 1>(rows, vectors);
  }
  return select_tile_vectors<T, R, kTileVectors>(vectors);
}

XL_KERNELS_END
