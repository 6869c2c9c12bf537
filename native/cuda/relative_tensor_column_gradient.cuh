// Gradients of keys and values, and of positions, on the tensor cores: one kernel for both. What a block owns are the columns of its
// tiles; rows are queries. For keys the content term and dO V^T are plain products, and the relative term comes along diagonals from a
// window of positions. For positions it is the other way round: q . r is plain, keys and values are windows.
#pragma once

#include "cuda/relative_tensor_gradient.cuh"

namespace xlformers::cuda {

template <int D, bool kPositions>
struct ColumnGradientTile {
  static constexpr int kWarps = D <= 96 || (D <= 128 && !kPositions) ? 4 : 2;
  static constexpr int kThreads = 32 * kWarps;
  static constexpr int kQueries = 16 * kWarps;                        // by step
  static constexpr int kColumns = D <= 64 ? 64 : D <= 128 ? 32 : 16;  // owned
  static constexpr int kColumnTiles = kColumns / 8;
  static constexpr int kSteps = D / 16;
  static constexpr int kStride = head_stride(D);
  static constexpr bool kInRegisters = D <= 96;  // a warp's queries and gradients of out
  static constexpr int kWindow = kQueries + kColumns;
  static constexpr int kTileStride = kColumns + 8;  // of dS and dropout(P) in shared memory
  // The last product [kColumns, D]: a warp has 16 rows of it, and this part of the columns.
  static constexpr int kParts = kWarps * 16 / kColumns;
  static constexpr int kPartColumns = D / kParts;
};

template <typename T, int D, bool kPositions>
struct ColumnGradientShared {
  using Tile = ColumnGradientTile<D, kPositions>;
  T* owned;          // keys or positions [kColumns][kStride]
  T* owned_values;   // for keys
  T* window;         // positions or keys [kWindow][kStride]
  T* window_values;  // for positions
  T* queries;        // [kQueries][kStride]
  T* out_gradients;
  T* score_gradients;   // [kQueries][kTileStride]
  T* probabilities;     // for keys
  float* owned_terms;   // u . k or v . r [kColumns]
  float* window_terms;  // [kWindow]
  RowFacts* facts;      // [kQueries]

  static constexpr int kOwned = Tile::kColumns * Tile::kStride;
  static constexpr int kWindowElements = Tile::kWindow * Tile::kStride;
  static constexpr int kQueryElements = Tile::kQueries * Tile::kStride;
  static constexpr int kTile = Tile::kQueries * Tile::kTileStride;
  static constexpr size_t kElements =
      (kPositions ? kOwned + 2 * kWindowElements + kTile : 2 * kOwned + kWindowElements + 2 * kTile) + 2 * kQueryElements;
  static constexpr size_t kBytes =
      kElements * sizeof(T) + (Tile::kColumns + Tile::kWindow) * sizeof(float) + Tile::kQueries * sizeof(RowFacts);

  __device__ explicit ColumnGradientShared(unsigned char* memory) {
    owned = reinterpret_cast<T*>(memory);
    owned_values = owned + kOwned;
    window = owned + (kPositions ? kOwned : 2 * kOwned);
    window_values = window + kWindowElements;
    queries = window + (kPositions ? 2 * kWindowElements : kWindowElements);
    out_gradients = queries + kQueryElements;
    score_gradients = out_gradients + kQueryElements;
    probabilities = score_gradients + kTile;
    owned_terms = reinterpret_cast<float*>(owned + kElements);
    window_terms = owned_terms + Tile::kColumns;
    facts = reinterpret_cast<RowFacts*>(window_terms + Tile::kWindow);
  }
};

// sums[n] += A [16, 16] times columns [column, column + 8 * count) of 16 rows.
template <typename T, int D, int count>
__device__ __forceinline__ void add_rows(const uint32_t (&a)[4], const T* rows, int column, float (&sums)[count][4]) {
#pragma unroll
  for (int n = 0; n < count; n += 2) {
    uint32_t b[4];
    load_columns<D>(rows, column + 8 * n, b);
    mma_m16n8k16<T>(sums[n], a, b[0], b[1]);
    mma_m16n8k16<T>(sums[n + 1], a, b[2], b[3]);
  }
}

// A block for keys: kColumns keys of one batch row and head; it writes dK, dV and key_sums, the sums of dS over queries.
// FLOPs: 10.5 * head_dim a score; B32 H16 T384 M384 d64 on an H100 (prediction): 102 GFLOP, 410 us at 250 TFLOP/s.
// A block for positions: kColumns rows of r of one head, over a part of the batch; it writes partial sums of dR and of dS along diagonals.
// FLOPs: 9 * head_dim a score: 87 GFLOP, 350 us; the price of a dR whose order of sums is fixed.
template <typename T, int D, bool kPositions>
__global__ void __launch_bounds__(ColumnGradientTile<D, kPositions>::kThreads, D <= 96 ? 2 : 1)
    relative_tensor_column_gradient(const TensorGradientProblem<T> problem) {
  using Tile = ColumnGradientTile<D, kPositions>;
  using Shared = ColumnGradientShared<T, D, kPositions>;
  constexpr int kColumnTiles = Tile::kColumnTiles, kSteps = Tile::kSteps, kQueries = Tile::kQueries, kColumns = Tile::kColumns;
  constexpr int kStride = Tile::kStride, kThreads = Tile::kThreads, kWindow = Tile::kWindow, kTileStride = Tile::kTileStride;
  constexpr int kOutTiles = Tile::kPartColumns / 8;
  XL_DYNAMIC_SHARED(shared_bytes);
  const Shared shared(shared_bytes);
  const RelativeProblem<T>& rows = problem.tensor.rows;
  const RelativeGradientProblem<T>& gradient = problem.gradient;

  // Which columns: keys first_owned + c, or positions first_owned + kColumns - 1 - c, so that the key rises with the column.
  const int length = kPositions ? rows.position_rows : rows.band.keys;
  const int tiles = (length + kColumns - 1) / kColumns;
  const int first_owned = static_cast<int>(blockIdx.x) % tiles * kColumns;
  const int outer = static_cast<int>(blockIdx.x) / tiles;  // batch * heads + head, or split * heads + head
  const int head_index = outer % rows.heads;
  int batch_begin = outer / rows.heads, batch_end = batch_begin + 1;
  if constexpr (kPositions) {
    const int split = batch_begin;
    batch_begin = static_cast<int>(static_cast<int64_t>(rows.batch) * split / gradient.splits);
    batch_end = static_cast<int>(static_cast<int64_t>(rows.batch) * (split + 1) / gradient.splits);
  }
  const auto owned_index = [&](int c) { return kPositions ? first_owned + kColumns - 1 - c : first_owned + c; };

  float sums[kOutTiles][4] = {};                         // dK or dR
  float value_sums[kPositions ? 1 : kOutTiles][4] = {};  // dV
  float totals[4] = {};                                  // of dS by owned row
  const int group = warp_index() / Tile::kParts * 16;    // of owned rows
  const int part = warp_index() % Tile::kParts * Tile::kPartColumns;
  const uint32_t ones = pack<T>(1.0f, 1.0f);
  const Skew skew;
  const float scale = rows.scale * kLogOfE;

  bool owned_loaded = false;
  for (int batch = batch_begin; batch < batch_end; ++batch) {
    const RelativeHead<T> head(rows, batch, head_index);
    const float value_scale = head.head_scale() * static_cast<float>(rows.dropout.scale);
    int query_begin = 0, query_end = rows.query_length;
    if constexpr (!kPositions) {
      query_begin = rows.band.first_query(first_owned) / kQueries * kQueries;
      query_end = min(query_end, rows.band.end_query(min(first_owned + kColumns, rows.band.keys)));
    }
    for (int query0 = query_begin; query0 < query_end; query0 += kQueries) {
      // The row of query i of the tile: for positions from the last query down, so that diagonals run the same way.
      const auto query_of = [&](int row) { return kPositions ? query0 + kQueries - 1 - row : query0 + row; };
      // Key of row `row` and column 0; it falls by one a row for positions, and stays for keys.
      const int corner = kPositions ? rows.band.memory + query0 + kQueries - rows.first_distance - first_owned - kColumns : first_owned;
      const auto key_of = [&](int row) { return kPositions ? corner - row : corner; };
      if constexpr (kPositions) {
        const int last = min(query0 + kQueries, rows.query_length) - 1;
        if (corner + kColumns <= head.first_key(query0) || corner - kQueries + 1 >= head.end_key(last)) continue;
      }

      __syncthreads();
      if (!owned_loaded) {
        owned_loaded = true;
        const float* const terms = kPositions ? problem.tensor.position_terms : problem.key_terms;
        const int64_t offset = (kPositions ? static_cast<int64_t>(head_index) : static_cast<int64_t>(head.pair())) * length;
        copy_tile<D, kThreads>(
            kColumns, rows.head_dim, rows.query.first,
            [&](int c) { return kPositions ? head.position(owned_index(c)) : head.key(owned_index(c)); }, shared.owned);
        if constexpr (!kPositions) {
          copy_tile<D, kThreads>(
              kColumns, rows.head_dim, rows.query.first, [&](int c) { return head.value(owned_index(c)); }, shared.owned_values);
        }
#pragma unroll 1  // registers
        for (int c = static_cast<int>(threadIdx.x); c < kColumns; c += kThreads) {
          shared.owned_terms[c] = terms != nullptr && owned_index(c) < length ? terms[offset + owned_index(c)] : 0.0f;
        }
      }
      copy_tile<D, kThreads>(
          kQueries, rows.head_dim, rows.query.first, [&](int row) { return head.query(query_of(row)); }, shared.queries);
      copy_tile<D, kThreads>(
          kQueries, rows.head_dim, rows.query.first, [&](int row) { return out_gradient_row(problem, head, query_of(row)); },
          shared.out_gradients);
      // Window row z is the diagonal of column - row = z - (kQueries - 1).
      const int first_window = kPositions ? corner - (kQueries - 1) : head.position_row(query0 + kQueries - 1, first_owned);
      copy_tile<D, kThreads>(
          kWindow, rows.head_dim, rows.query.first,
          [&](int z) { return kPositions ? head.key(first_window + z) : head.position(first_window - z); }, shared.window);
      if constexpr (kPositions) {
        copy_tile<D, kThreads>(
            kWindow, rows.head_dim, rows.query.first, [&](int z) { return head.value(first_window + z); }, shared.window_values);
      }
      cp_async_commit();
      {
        const float* const terms = kPositions ? problem.key_terms : problem.tensor.position_terms;
        const int window_length = kPositions ? rows.band.keys : rows.position_rows;
        const int64_t offset = (kPositions ? static_cast<int64_t>(head.pair()) : static_cast<int64_t>(head_index)) * window_length;
#pragma unroll 1
        for (int z = static_cast<int>(threadIdx.x); z < kWindow; z += kThreads) {
          const int index = kPositions ? first_window + z : first_window - z;
          shared.window_terms[z] = terms != nullptr && index >= 0 && index < window_length ? terms[offset + index] : 0.0f;
        }
      }
      if (threadIdx.x < kQueries) {
        const int row = static_cast<int>(threadIdx.x), query = query_of(row), key = key_of(row);
        shared.facts[row] = {head.first_key(query) - key, head.end_key(query) - key, row_statistic(head, gradient, query)};
      }
      cp_async_wait<0>();
      __syncthreads();

      const T* const my_queries = shared.queries + warp_index() * 16 * kStride;
      const T* const my_out_gradients = shared.out_gradients + warp_index() * 16 * kStride;
      constexpr int kHeld = Tile::kInRegisters ? kSteps : 1;
      uint32_t query_fragments[kHeld][4], gradient_fragments[kHeld][4];
      if constexpr (Tile::kInRegisters) {
#pragma unroll
        for (int k = 0; k < kSteps; ++k) {
          load_left<D>(my_queries, k, query_fragments[k]);
          load_left<D>(my_out_gradients, k, gradient_fragments[k]);
        }
      }
      const int my_row = warp_index() * 16 + fragment_row();
      std::conditional_t<(kColumns > 32), uint64_t, uint32_t> kept[2];
      bool inside = true;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = my_row + 8 * half;
        inside = inside && shared.facts[row].begin <= 0 && shared.facts[row].end >= kColumns;
        kept[half] = static_cast<decltype(kept[0] + 0)>(~uint64_t{0});
        if (rows.dropout.active()) {
          kept[half] = kept_mask<kColumns>(rows.dropout, head.pair(), query_of(row), key_of(row)) >> fragment_column();
        }
      }
      const bool edge = !__all_sync(0xFFFFFFFFu, inside);

      // One tile of 8 columns after the other, behind the tiles of diagonals that it needs.
      const int window = (Tile::kWarps - 1 - warp_index()) * 16;
      float diagonals[kColumnTiles + 2][4], value_diagonals[kPositions ? kColumnTiles + 2 : 1][4];
#pragma unroll
      for (int x = 0; x < kColumnTiles + 2; ++x) {
        const int z = window + 8 * x;
        diagonals[x][0] = diagonals[x][2] = shared.window_terms[z + fragment_column()];
        diagonals[x][1] = diagonals[x][3] = shared.window_terms[z + fragment_column() + 1];
        multiply_rows<D>(query_fragments, my_queries, shared.window + z * kStride, diagonals[x]);
        if constexpr (kPositions) {
#pragma unroll
          for (int e = 0; e < 4; ++e) value_diagonals[x][e] = 0;
          multiply_rows<D>(gradient_fragments, my_out_gradients, shared.window_values + z * kStride, value_diagonals[x]);
        }
        if (x < 2) continue;
        const int n = x - 2;
        float scores[4], products[4] = {};
        skew.shift(diagonals[n], diagonals[n + 1], diagonals[n + 2], scores);
        const float first = shared.owned_terms[8 * n + fragment_column()], second = shared.owned_terms[8 * n + fragment_column() + 1];
        scores[0] += first, scores[1] += second, scores[2] += first, scores[3] += second;
        multiply_rows<D>(query_fragments, my_queries, shared.owned + 8 * n * kStride, scores);
        if constexpr (kPositions) {
          skew.shift(value_diagonals[n], value_diagonals[n + 1], value_diagonals[n + 2], products);
        } else {
          multiply_rows<D>(gradient_fragments, my_out_gradients, shared.owned_values + 8 * n * kStride, products);
        }
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int at = (my_row + 8 * half) * kTileStride + 8 * n + fragment_column();
          const RowFacts facts = shared.facts[my_row + 8 * half];
          float p[2], ds[2];
#pragma unroll
          for (int e = 0; e < 2; ++e) {
            const int column = 8 * n + e + fragment_column();
            p[e] = exp2_approx(scores[2 * half + e] * scale - facts.statistic.shift);
            if (edge && (column < facts.begin || column >= facts.end)) p[e] = 0;
            const float factor = (kept[half] >> (8 * n + e) & 1u) != 0 ? value_scale : 0.0f;
            ds[e] = p[e] * (products[2 * half + e] * factor - facts.statistic.delta);
            p[e] *= factor;
          }
          *reinterpret_cast<uint32_t*>(shared.score_gradients + at) = pack<T>(ds[0], ds[1]);
          if constexpr (!kPositions) *reinterpret_cast<uint32_t*>(shared.probabilities + at) = pack<T>(p[0], p[1]);
        }
      }
      __syncthreads();

#pragma unroll(D <= 128 ? kQueries / 16 : 1)  // registers
      for (int k = 0; k < kQueries / 16; ++k) {
        uint32_t a[4];
        load_left_transposed(shared.score_gradients + 16 * k * kTileStride, kTileStride, group, a);
        add_rows<T, D>(a, shared.queries + 16 * k * kStride, part, sums);
        mma_m16n8k16<T>(totals, a, ones, ones);
        if constexpr (!kPositions) {
          load_left_transposed(shared.probabilities + 16 * k * kTileStride, kTileStride, group, a);
          add_rows<T, D>(a, shared.out_gradients + 16 * k * kStride, part, value_sums);
        }
      }
    }
  }

  // dK = scale (dS^T Q + (sums of dS) u), and likewise for positions.
  const T* const bias = kPositions ? rows.position_bias : rows.content_bias;
  const int head_dim = problem.tensor.head_dim;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int index = owned_index(group + 8 * half + fragment_row());
    if (index >= length) continue;
    const float total = totals[2 * half];
    if (part == 0 && lane_index() % 4 == 0) {
      float* const to = kPositions ? gradient.partial_sums : gradient.key_sums;
      to[static_cast<int64_t>(outer) * length + index] = total;
    }
#pragma unroll
    for (int n = 0; n < kOutTiles; ++n) {
      const int column = part + 8 * n + fragment_column();
      float values[2];
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const float u = bias != nullptr && column + e < head_dim ? to_float(bias[head_index * head_dim + column + e]) : 0.0f;
        values[e] = rows.scale * (sums[n][2 * half + e] + total * u);
      }
      if constexpr (kPositions) {
        float* const to =
            gradient.partial + ((static_cast<int64_t>(outer / rows.heads) * length + index) * rows.heads + head_index) * head_dim;
        if (column < head_dim) to[column] = values[0];
        if (column + 1 < head_dim) to[column + 1] = values[1];
      } else {
        store_pair_anywhere(gradient.key_gradient.row(batch_begin, index, head_index * head_dim), column, head_dim, values[0], values[1]);
        store_pair_anywhere(gradient.value_gradient.row(batch_begin, index, head_index * head_dim), column, head_dim,
                            value_sums[n][2 * half], value_sums[n][2 * half + 1]);
      }
    }
  }
}

}  // namespace xlformers::cuda
