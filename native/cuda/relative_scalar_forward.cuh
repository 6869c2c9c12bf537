// Relative attention without tensor cores, forward: online softmax over tiles of keys (Milakov & Gimelshein 2018; Dao et al. 2022).
#pragma once

#include "cuda/relative_scalar.cuh"

namespace xlformers::cuda {

// A block: kSide queries of one batch row and head. FLOPs: 6 * head_dim a score. Bytes: keys, values and 2x positions once per block, which
// L2 serves; out and log_sum_exp once. No score goes to memory. fp32, B32 H16 T384 M384 d64 (151M scores): 58 GFLOP, about 1.5 ms on an
// H100 at 40 of its 60 TFLOP/s.
template <typename T, int kColumns>
__global__ void __launch_bounds__(kScalarThreads, scalar_blocks(kColumns)) relative_scalar_forward(const RelativeProblem<T> problem) {
  using C = Compute<T>;
  using Tile = ScalarTile<C>;
  constexpr int kMicro = Tile::kMicro, kSide = Tile::kSide;
  XL_DYNAMIC_SHARED(shared_bytes);
  C* const staging = reinterpret_cast<C*>(shared_bytes);
  C* const tile = scalar_tile<C, kColumns>(staging, 0);  // probabilities [key][query]
  const int tiles = (problem.query_length + kSide - 1) / kSide;
  const int pair = static_cast<int>(blockIdx.x) / tiles;
  const RelativeHead<T> head(problem, pair / problem.heads, pair % problem.heads);
  // Late queries see most keys: they come first.
  const int query0 = (tiles - 1 - static_cast<int>(blockIdx.x) % tiles) * kSide;
  const int row0 = query0 + scalar_y() * kMicro;

  C out[kMicro][kColumns] = {};
  C maximum[kMicro], sum[kMicro];
#pragma unroll
  for (int r = 0; r < kMicro; ++r) maximum[r] = static_cast<C>(-1e30), sum[r] = 0;
  const int last = min(query0 + kSide, problem.query_length) - 1;
  for (int key0 = head.first_key(query0) / kSide * kSide; key0 < head.end_key(last); key0 += kSide) {
    typename Tile::Sums p = {};
    relative_scores(head, query0, key0, staging, p);
    const int column0 = key0 + scalar_x() * kMicro;
#pragma unroll
    for (int r = 0; r < kMicro; ++r) {
      const int begin = head.first_key(row0 + r) - column0, end = head.end_key(row0 + r) - column0;
      C top = maximum[r];
#pragma unroll
      for (int c = 0; c < kMicro; ++c) {
        if (c >= begin && c < end) top = max(top, p[r][c]);
      }
      top = row_max(top);
      const C correction = exponential(maximum[r] - top);
      maximum[r] = top;
      sum[r] *= correction;
#pragma unroll
      for (int n = 0; n < kColumns; ++n) out[r][n] *= correction;
#pragma unroll
      for (int c = 0; c < kMicro; ++c) {
        p[r][c] = c >= begin && c < end ? exponential(p[r][c] - top) : C{0};
        sum[r] += p[r][c];
      }
      if (problem.dropout.active()) {
        C kept[kMicro];
        dropout_factors(problem.dropout, pair, row0 + r, column0, 1, kept);
#pragma unroll
        for (int c = 0; c < kMicro; ++c) p[r][c] *= kept[c];
      }
#pragma unroll
      for (int c = 0; c < kMicro; ++c) tile[(scalar_x() * kMicro + c) * Tile::kStride + scalar_y() * kMicro + r] = p[r][c];
    }
    add_tile_product(tile, row_operand<T>([&](int j) { return head.value(key0 + j); }), problem.head_dim, staging, out);
  }
#pragma unroll
  for (int r = 0; r < kMicro; ++r) {
    const C total = row_sum(sum[r]);
    if (row0 + r >= problem.query_length) continue;
    const C factor = head.head_scale() / total;
    T* const to = problem.out + head.out_offset(row0 + r);
#pragma unroll
    for (int n = 0; n < kColumns; ++n) {
      const int column = head_column<C>(n);
      if (column < problem.head_dim) to[column] = narrow<T>(out[r][n] * factor);
    }
    if (scalar_x() == 0) problem.log_sum_exp[head.statistic_offset(row0 + r)] = maximum[r] + log(total);
  }
}

template <typename T>
Status launch_scalar_forward(const Context& context, const RelativeProblem<T>& problem) {
  using C = Compute<T>;
  const int64_t blocks = static_cast<int64_t>(problem.batch) * problem.heads * tiles_of(problem.query_length, ScalarTile<C>::kSide);
  if (blocks == 0) return ok_status();
  return with_scalar_columns(problem.head_dim, [&](auto tag) {
    constexpr int kColumns = decltype(tag)::value;
    const LaunchShape shape = {"relative_attention", dim3(static_cast<unsigned>(blocks)), dim3(kScalarThreads),
                               scalar_shared_bytes<C>(kColumns, 1), context.stream};
    return launch(shape, relative_scalar_forward<T, kColumns>, problem);
  });
}

}  // namespace xlformers::cuda
