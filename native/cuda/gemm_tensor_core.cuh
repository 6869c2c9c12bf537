// Matrix products of bf16 and fp16 by tensor cores: mma.m16n8k16, operands by cp.async in three stages of 32 inner
// elements.
//
// A block of 4 warps computes a tile of kTile x kTile; a warp a quarter. Stages keep the operands in the order of
// memory, rows of 64 bytes (`along`) or of a tile (across); 16-byte chunks are permuted within a row so that the 8 rows
// of an ldmatrix lie in different banks.
//
// Reads (rows * columns / kTile) * inner * 2 operands from the cache, each of them from memory about once; 2 rows *
// columns * inner FLOPs. H100, 8192 x 4096 x 1024 (a feed-forward layer, bf16): 68.7 GFLOP, 92 MB. mma.sync gives about
// 62 % of the 800 TFLOP/s of wgmma, and shared memory is busy 80 % of that time; expected 400 TFLOP/s, 172 us (memory
// alone: 31 us).
#pragma once

#include "cuda/gemm_epilogue.cuh"

namespace xlformers::cuda {

constexpr int kTensorThreads = 128, kTensorStep = 32, kTensorStages = 3;
constexpr int kChunk = 8;  // elements of 16 bytes

// One operand's part of a stage.
template <int kTile, bool kAlong, typename T>
struct TensorTile {
  static constexpr int kElements = kTile * kTensorStep;
  static constexpr int kTileRows = kAlong ? kTile : kTensorStep, kRowChunks = (kAlong ? kTensorStep : kTile) / kChunk;
  static constexpr int kRowsAtOnce = kTensorThreads / kRowChunks;
  static_assert(kRowsAtOnce % 8 == 0, "all rows of a thread have their chunks in the same order");

  // Of a chunk, in elements. Two rows of 64 bytes fill the 32 banks, hence the half of the row's number.
  static __device__ __forceinline__ int offset(int row, int chunk) {
    return (row * kRowChunks + (chunk ^ (kAlong ? row >> 1 & 3 : row & 7))) * kChunk;
  }

  // A thread copies the same chunk of every kRowsAtOnce-th row. Of the lines those that exist, zeros for the others.
  struct Walk {
    const T* from;  // the chunk of the next stage
    int to, row, lines, step;

    __device__ __forceinline__ Walk(const GemmOperand<T>& operand, int64_t line, int64_t k) {
      const int thread = static_cast<int>(threadIdx.x), chunk = thread % kRowChunks;
      row = thread / kRowChunks;
      to = offset(row, chunk);
      const int first_line = kAlong ? 0 : chunk * kChunk;
      lines = limited(operand.size - line - first_line, kAlong ? kTile : kChunk);
      step = kAlong ? chunk * kChunk : 0;
      from = kAlong ? operand.data + (line + row) * operand.stride + k + step
                    : operand.data + (k + row) * operand.stride + line + first_line;
    }
  };

  // `rest`: inner elements left from the stage's first on.
  static __device__ __forceinline__ void load(T* tile, const GemmOperand<T>& operand, Walk& walk, int64_t rest) {
    const int steps = limited(rest - walk.step, kAlong ? kChunk : kTensorStep);
#pragma unroll
    for (int i = 0; i < kTileRows / kRowsAtOnce; ++i) {
      const bool there = walk.row + i * kRowsAtOnce < (kAlong ? walk.lines : steps);
      const int valid = there ? (kAlong ? steps : walk.lines) : 0;
      copy(tile + walk.to + i * kRowsAtOnce * kRowChunks * kChunk, walk.from + i * kRowsAtOnce * operand.stride, valid,
           operand.width);
    }
    walk.from += kAlong ? kTensorStep : kTensorStep * operand.stride;
  }

 private:
  static __device__ __forceinline__ void copy(T* to, const T* from, int valid, int width) {
    if (width == kChunk) {
      cp_async<16>(to, from, valid * 2);
    } else if (width == 2) {
#pragma unroll
      for (int i = 0; i < kChunk; i += 2) {
        const int left = limited(valid - i, 2);
        cp_async<4>(to + i, from + i, left * 2);
      }
    } else {
#pragma unroll
      for (int i = 0; i < kChunk; ++i) to[i] = i < valid ? from[i] : from_float<T>(0.0f);
    }
  }
};

// Lanes' addresses for four 8x8 matrices of 16 lines by 16 inner elements. kLinesFirst: the second matrix is that of
// the next 8 lines (as the registers of A want it), else that of the next 8 inner elements (as two tiles of B do).
template <bool kLinesFirst, typename Tile, bool kAlong, typename T>
__device__ __forceinline__ void load_fragment(uint32_t (&fragment)[4], const T* tile, int line, int k, int lane) {
  const int low = (lane >> 3 & 1) * 8, high = (lane >> 4) * 8;
  const int lines = kLinesFirst ? low : high, steps = kLinesFirst ? high : low;
  if constexpr (kAlong) {
    ldmatrix(fragment, tile + Tile::offset(line + lines + (lane & 7), (k + steps) / kChunk));
  } else {
    ldmatrix_transposed(fragment, tile + Tile::offset(k + steps + (lane & 7), (line + lines) / kChunk));
  }
}

template <int kTile, typename T>
constexpr size_t tensor_core_shared_bytes() {
  return size_t{kTensorStages} * 2 * kTile * kTensorStep * sizeof(T);
}

template <typename T, int kTile, bool kAlongA, bool kAlongB>
__global__ void __launch_bounds__(kTensorThreads, kTile == 128 ? 2 : 4)
    multiply_by_tensor_cores(const GemmProblem<T> problem, const GemmOutput<T> out) {
  using TileA = TensorTile<kTile, kAlongA, T>;
  using TileB = TensorTile<kTile, kAlongB, T>;
  constexpr int kWarpTile = kTile / 2, kRowTiles = kWarpTile / 16, kColumnTiles = kWarpTile / 8;
  constexpr int kStageElements = TileA::kElements + TileB::kElements;
  XL_DYNAMIC_SHARED(memory);
  T* const stages = reinterpret_cast<T*>(memory);

  const TilePlace place = tile_place(blockIdx.x, problem.row_tiles, problem.column_tiles);
  const int64_t row = place.row * kTile, column = place.column * kTile;
  GemmOperand<T> a = problem.a;
  a.size = size_there(a.size, problem.rows_there);
  if (row >= a.size) return;
  const int64_t inner = size_there(problem.inner, problem.inner_there);
  if (inner == 0 && problem.inner_there.count != nullptr && out.accumulate) return;  // there is nothing to add
  const int64_t begin = blockIdx.y * problem.split_inner;
  const int64_t end = begin + problem.split_inner < inner ? begin + problem.split_inner : inner;
  const int steps = static_cast<int>((end - begin + kTensorStep - 1) / kTensorStep);
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int warp_row = warp / 2 * kWarpTile, warp_column = warp % 2 * kWarpTile;

  // The next stage to be loaded; nothing beyond the end, but a group all the same, which keeps the count of those under
  // way.
  typename TileA::Walk walk_a(a, row, begin);
  typename TileB::Walk walk_b(problem.b, column, begin);
  const auto load_stage = [&](int step) {
    if (step < steps) {
      T* const stage = stages + step % kTensorStages * kStageElements;
      const int64_t rest = end - begin - int64_t{step} * kTensorStep;
      TileA::load(stage, problem.a, walk_a, rest);
      TileB::load(stage + TileA::kElements, problem.b, walk_b, rest);
    }
    cp_async_commit();
  };
#pragma unroll
  for (int step = 0; step < kTensorStages - 1; ++step) load_stage(step);

  float sums[kRowTiles][kColumnTiles][4] = {};
  for (int step = 0; step < steps; ++step) {
    cp_async_wait<kTensorStages - 2>();
    __syncthreads();  // also: all warps are done with the stage that is loaded now
    load_stage(step + kTensorStages - 1);
    const T* const tile_a = stages + step % kTensorStages * kStageElements;
    const T* const tile_b = tile_a + TileA::kElements;
#pragma unroll
    for (int k = 0; k < kTensorStep; k += 16) {
      uint32_t a[kRowTiles][4], b[kColumnTiles / 2][4];
#pragma unroll
      for (int i = 0; i < kRowTiles; ++i) load_fragment<true, TileA, kAlongA>(a[i], tile_a, warp_row + 16 * i, k, lane);
#pragma unroll
      for (int j = 0; j < kColumnTiles / 2; ++j)
        load_fragment<false, TileB, kAlongB>(b[j], tile_b, warp_column + 16 * j, k, lane);
#pragma unroll
      for (int i = 0; i < kRowTiles; ++i) {
#pragma unroll
        for (int j = 0; j < kColumnTiles; ++j)
          mma_m16n8k16<T>(sums[i][j], a[i], b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
      }
    }
  }
  cp_async_wait<0>();
  __syncthreads();

  // Through shared memory, 16 rows of a warp at a time, to have four neighbours of a row in a thread.
  constexpr int kStride = kWarpTile + 8, kLanesOfRow = kWarpTile / 4;
  float* const staged = reinterpret_cast<float*>(memory) + warp * 16 * kStride;
  const int group = lane / 4, in_group = lane % 4;
#pragma unroll 1
  for (int part = 0; part < kRowTiles; ++part) {
#pragma unroll
    for (int i = 0; i < kRowTiles; ++i) {
      if (i != part) continue;
#pragma unroll
      for (int j = 0; j < kColumnTiles; ++j) {
        float* const to = staged + group * kStride + 8 * j + 2 * in_group;
        *reinterpret_cast<float2*>(to) = make_float2(sums[i][j][0], sums[i][j][1]);
        *reinterpret_cast<float2*>(to + 8 * kStride) = make_float2(sums[i][j][2], sums[i][j][3]);
      }
    }
    __syncwarp();
#pragma unroll 1
    for (int r = lane / kLanesOfRow; r < 16; r += 32 / kLanesOfRow) {
      const int c = lane % kLanesOfRow * 4;
      put_four(out, blockIdx.y, row + warp_row + 16 * part + r, column + warp_column + c, staged + r * kStride + c);
    }
    __syncwarp();
  }
}

}  // namespace xlformers::cuda
