// Matrix products of float and double by multiply-adds: a block of 256 threads computes a tile of 16 kThread x 16
// kThread, a thread kThread x kThread of it from registers. Tiles of 64 / kThread inner elements lie in shared memory
// as [inner][line], twice: one is filled while the other is used, its elements, four per thread, on the way in
// registers meanwhile.
//
// Float: 128 multiply-adds per clock and multiprocessor; an inner element takes a warp 64 instructions of arithmetic
// and 4 of shared memory (8 x 8 per thread). H100, 8192 x 4096 x 1024: 68.7 GFLOP, 184 MB; expected 45 of 60
// TFLOP/s, 1.5 ms (memory alone: 61 us). Double is for tests.
#pragma once

#include "cuda/gemm_epilogue.cuh"

namespace xlformers::cuda {

constexpr int kRegisterThreads = 256;

// One operand's tile, and what a thread carries of the next: four inner elements of a line, or those of four lines.
template <typename T, int kThread>
struct RegisterTile {
  static constexpr int kTile = 16 * kThread, kStep = 64 / kThread;
  static constexpr int kElements = 4 * kRegisterThreads;

  // Of an element, or of four neighbouring lines. Lines are permuted so that threads that store single elements of
  // neighbouring lines, kStep / 4 times the same ones, meet 32 banks.
  static __device__ __forceinline__ int offset(int k, int line) { return k * kTile + (line ^ k / 4 * (128 / kStep)); }

  // Where the thread reads next, and where it writes.
  struct Walk {
    const T* from;
    int lines, step;  // there are so many of its lines; its place in the step
    int to;

    __device__ __forceinline__ Walk(const GemmOperand<T>& operand, int64_t first_line, int64_t k) {
      const int thread = static_cast<int>(threadIdx.x);
      const int line = operand.along ? thread / (kStep / 4) : thread % (kTile / 4) * 4;
      step = operand.along ? thread % (kStep / 4) * 4 : thread / (kTile / 4);
      to = offset(step, line);
      lines = limited(operand.size - first_line - line, operand.along ? 1 : 4);
      from = operand.at(first_line + line, k + step);
    }
  };

  // `rest`: inner elements left from the tile's first on.
  static __device__ __forceinline__ void fetch(T (&carried)[4], const GemmOperand<T>& operand, Walk& walk,
                                               int64_t rest) {
    const int valid = walk.lines * limited(rest - walk.step, operand.along ? 4 : 1);
    if (valid == 4 && operand.width == 4) {
      load_four(walk.from, carried);
    } else {
#pragma unroll
      for (int i = 0; i < 4; ++i) carried[i] = i < valid ? walk.from[i] : T{0};
    }
    walk.from += operand.along ? kStep : kStep * operand.stride;
  }

  static __device__ __forceinline__ void store(const T (&carried)[4], T* tile, const Walk& walk, bool along) {
    if (along) {
#pragma unroll
      for (int i = 0; i < 4; ++i) tile[walk.to + i * kTile] = carried[i];
    } else {
      store_four(tile + walk.to, carried);
    }
  }
};

// A thread's lines of a tile: kThread / 4 times four, 64 apart, so that the threads of a warp read without gaps.
__device__ __forceinline__ int thread_line(int thread, int i) { return i / 4 * 64 + thread * 4 + i % 4; }

// [stage][operand]
template <typename T, int kThread>
struct alignas(16) RegisterStages {
  T tiles[2][2][RegisterTile<T, kThread>::kElements];
};

template <typename T, int kThread>
__global__ void __launch_bounds__(kRegisterThreads, 2)
    multiply_in_registers(const GemmProblem<T> problem, const GemmOutput<T> out) {
  using Tile = RegisterTile<T, kThread>;
  constexpr int kTile = Tile::kTile, kStep = Tile::kStep;
  XL_SHARED(stages, RegisterStages<T, kThread>);
  auto& tiles = stages.tiles;

  const TilePlace place = tile_place(blockIdx.x, problem.row_tiles, problem.column_tiles);
  const int64_t row = place.row * kTile, column = place.column * kTile;
  GemmOperand<T> a = problem.a;
  a.size = size_there(a.size, problem.rows_there);
  if (row >= a.size) return;
  const int64_t inner = size_there(problem.inner, problem.inner_there);
  if (inner == 0 && problem.inner_there.count != nullptr && out.accumulate) return;  // there is nothing to add
  const int64_t begin = blockIdx.y * problem.split_inner;
  const int64_t end = begin + problem.split_inner < inner ? begin + problem.split_inner : inner;
  const int thread_row = static_cast<int>(threadIdx.x) / 16, thread_column = static_cast<int>(threadIdx.x) % 16;

  T sums[kThread][kThread] = {};
  T next_a[4], next_b[4];
  typename Tile::Walk walk_a(a, row, begin), walk_b(problem.b, column, begin);
  Tile::fetch(next_a, problem.a, walk_a, end - begin);
  Tile::fetch(next_b, problem.b, walk_b, end - begin);
  Tile::store(next_a, tiles[0][0], walk_a, problem.a.along);
  Tile::store(next_b, tiles[0][1], walk_b, problem.b.along);
  __syncthreads();
  int stage = 0;
  for (int64_t rest = end - begin; rest > 0; rest -= kStep, stage ^= 1) {
    const bool more = rest > kStep;
    if (more) {
      Tile::fetch(next_a, problem.a, walk_a, rest - kStep);
      Tile::fetch(next_b, problem.b, walk_b, rest - kStep);
    }
#pragma unroll 2  // more would spill
    for (int step = 0; step < kStep; ++step) {
      T a[kThread / 4][4], b[kThread / 4][4];
#pragma unroll
      for (int i = 0; i < kThread / 4; ++i) {
        load_four(&tiles[stage][0][Tile::offset(step, thread_line(thread_row, 4 * i))], a[i]);
        load_four(&tiles[stage][1][Tile::offset(step, thread_line(thread_column, 4 * i))], b[i]);
      }
#pragma unroll
      for (int i = 0; i < kThread; ++i) {
#pragma unroll
        for (int j = 0; j < kThread; ++j) sums[i][j] += a[i / 4][i % 4] * b[j / 4][j % 4];
      }
    }
    if (more) {
      Tile::store(next_a, tiles[stage ^ 1][0], walk_a, problem.a.along);
      Tile::store(next_b, tiles[stage ^ 1][1], walk_b, problem.b.along);
    }
    __syncthreads();
  }

  // By way of a thread's own 16 elements of shared memory, which a loop may index: the epilogue is long, and unrolled
  // it would not fit into the instruction cache.
  constexpr int kParts = kThread * kThread / 16;
  T* const staged = &tiles[0][0][0] + 4 * threadIdx.x;
#pragma unroll 1
  for (int part = 0; part < kParts; ++part) {
#pragma unroll
    for (int i = 0; i < kThread; ++i) {
#pragma unroll
      for (int j = 0; j < kThread; j += 4) {
        const int four = (i * kThread + j) / 4;
        if (four / 4 != part) continue;
        const T value[4] = {sums[i][j], sums[i][j + 1], sums[i][j + 2], sums[i][j + 3]};
        store_four(staged + four % 4 * (4 * kRegisterThreads), value);
      }
    }
#pragma unroll 1
    for (int i = 0; i < 4; ++i) {
      const int first = part * 16 + i * 4;
      put_four(out, blockIdx.y, row + thread_line(thread_row, first / kThread),
               column + thread_line(thread_column, first % kThread), staged + i * (4 * kRegisterThreads));
    }
  }
}

}  // namespace xlformers::cuda
