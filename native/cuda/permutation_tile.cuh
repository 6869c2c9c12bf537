// Tiles of permutation attention without tensor cores: which rows they have, what those see, and their scores.
//
// Rows of a tile stand at consecutive positions, or, in a stream that says where its rows stand, anywhere in ascending order. Consecutive
// rows take their relative term by one product along diagonals. The others take it by products with as many consecutive distances as the
// tile is wide, from which each score picks its own; as sorted rows stand close together, there are few such products.
#pragma once

#include "cuda/permutation_rows.cuh"
#include "cuda/relative_scalar_gradient.cuh"

namespace xlformers::cuda {

// The rows of a tile and what a gradient needs of them, in shared memory.
template <typename T>
struct ScalarTileRows : TileRows<T, ScalarTile<Compute<T>>::kSide> {
  using C = Compute<T>;

  PermutationStream<T> stream;
  bool is_query;                            // of the two streams
  C log_sum_exp[ScalarTile<C>::kSide];      // of rows that stand somewhere, where a forward pass has been
  int first_position, last_position;        // of those that stand somewhere; none: last < first
};

// Tiles of both streams, of one batch row and head.
template <typename T>
int64_t tiles_of_streams(const PermutationProblem<T>& problem) {
  constexpr int kSide = ScalarTile<Compute<T>>::kSide;
  return int64_t{tiles_of(problem.content.length, kSide)} + tiles_of(problem.query.length, kSide);
}

template <typename T>
struct PermutationTile {
  using C = Compute<T>;
  using Tile = ScalarTile<C>;
  static constexpr int kSide = Tile::kSide, kMicro = Tile::kMicro;
  using Seen = unsigned;  // bit r * kMicro + c: element (r, c) of the thread
  static_assert(kMicro * kMicro <= 32, "one bit an element");

  const PermutationProblem<T>& problem;
  ScalarTileRows<T>& rows;
  RelativeHead<T> head;

  __device__ PermutationTile(const PermutationProblem<T>& the_problem, ScalarTileRows<T>& shared_rows, int batch, int head_index)
      : problem(the_problem), rows(shared_rows), head(the_problem.shared, batch, head_index, 0) {}

  // Tile t of the batch row and head: those of the content stream, then those of the query stream. For all threads.
  __device__ void load(int t, bool after_forward) {
    const int content_tiles = (problem.content.length + kSide - 1) / kSide;
    const bool second = t >= content_tiles;
    __syncthreads();
    if (threadIdx.x == 0) {
      rows.is_query = second;
      if (second) {
        rows.stream = problem.query;
      } else {
        rows.stream = problem.content;
      }
    }
    __syncthreads();
    if (threadIdx.x < kSide) load_row(static_cast<int>(threadIdx.x), (second ? t - content_tiles : t) * kSide, after_forward);
    __syncthreads();
  }

  __device__ bool consecutive() const { return rows.stream.slots == nullptr; }
  __device__ bool reversed() const { return head.batch >= problem.reversed_from; }
  __device__ int distance(int position, int key) const { return problem.shared.band.memory + position - key; }
  // Of a row of this stream.
  __device__ int64_t statistic_offset(int row) const { return static_cast<int64_t>(head.pair()) * rows.stream.length + row; }
  __device__ int64_t out_offset(int row) const {
    return ((static_cast<int64_t>(head.batch) * rows.stream.length + row) * problem.shared.heads + head.head) * problem.shared.head_dim;
  }

  __device__ const T* query(int i) const { return rows.query[i]; }
  // The row of r of a distance as this batch row reads it.
  __device__ const T* position(int of_distance) const {
    return head.position((reversed() ? -of_distance : of_distance) - problem.shared.first_distance);
  }

  __device__ bool sees(int i, int key) const {
    const int keys = problem.shared.band.keys;
    const bool ranked = problem.key_ranks != nullptr && key < keys;
    return rows.sees(i, key, ranked ? problem.key_ranks[static_cast<int64_t>(head.batch) * keys + key] : INT32_MIN, problem, head.batch);
  }

  // What the thread's rows see of its keys in the tile that begins at key0.
  __device__ Seen seen(int key0) const {
    Seen bits = 0;
#pragma unroll
    for (int r = 0; r < kMicro; ++r) {
#pragma unroll
      for (int c = 0; c < kMicro; ++c) {
        if (sees(scalar_y() * kMicro + r, key0 + scalar_x() * kMicro + c)) bits |= 1u << (r * kMicro + c);
      }
    }
    return bits;
  }

  // As seen(), after a forward pass: a row that saw nothing has used every key.
  __device__ Seen used(int key0) const {
    Seen bits = seen(key0);
#pragma unroll
    for (int r = 0; r < kMicro; ++r) {
      const int i = scalar_y() * kMicro + r;
      if (!rows.present(i) || rows.log_sum_exp[i] >= static_cast<C>(kBlind)) continue;
#pragma unroll
      for (int c = 0; c < kMicro; ++c) {
        const int key = key0 + scalar_x() * kMicro + c;
        if (key >= 0 && key < problem.shared.band.keys) bits |= 1u << (r * kMicro + c);
      }
    }
    return bits;
  }

  // The probability of an element of a used pair, from its score.
  __device__ C probability(int i, C score) const {
    const C shift = rows.log_sum_exp[i];
    return shift < static_cast<C>(kBlind) ? C{1} / static_cast<C>(problem.shared.band.keys) : exponential(score - shift);
  }

  // Adds the scores of the tile's rows and the keys from key0 on, hidden ones included. `chunk`: a tile of scratch, which nobody uses when
  // this returns.
  __device__ void add_scores(int key0, C* staging, C* chunk, typename Tile::Sums& scores) const {
    const RelativeProblem<T>& shared = problem.shared;
    const auto query_row = [&](int i) { return query(i); };
    add_products(row_operand<T>(query_row, shared.scale, head.content_bias()), row_operand<T>([&](int j) { return head.key(key0 + j); }),
                 shared.head_dim, staging, scores);
    const auto queries = row_operand<T>(query_row, shared.scale, head.position_bias());
    if (consecutive()) {
      // Window row x = kSide - 1 - i + j, so that the distance falls by one a row.
      const int first = distance(rows.position[kSide - 1], key0);
      add_diagonal_products(queries, row_operand<T>([&](int x) { return position(first - x); }), shared.head_dim, staging, scores);
    } else {
      for_each_chunk(key0, [&](int nearest) {
        typename Tile::Sums products = {};
        add_products(queries, row_operand<T>([&](int x) { return position(nearest + x); }), shared.head_dim, staging, products);
        store_tile<C>(products, chunk, ScalarTile<C>::kStride, 1);
        __syncthreads();
        gather(key0, nearest, chunk, scores);
      });
      __syncthreads();
    }
    add_segment_scores(key0, scores);
  }

  // visit(nearest) for distances [nearest, nearest + kSide), until they cover all of the tile's rows with the keys from key0 on.
  template <typename Visit>
  __device__ void for_each_chunk(int key0, const Visit& visit) const {
    const int last = distance(rows.last_position, key0);
    for (int nearest = distance(rows.first_position, key0 + kSide - 1); nearest <= last; nearest += kSide) visit(nearest);
  }

  // Whether the thread's rows and keys have different segments; memory has segment 0.
  __device__ bool segments_differ(int i, int key) const {
    const int current = key - problem.shared.band.memory;
    const bool known = current >= 0 && key < problem.shared.band.keys;
    const int segment = known ? problem.segments[static_cast<int64_t>(head.batch) * problem.length + current] : 0;
    return segment != rows.segment[i];
  }

 private:
  __device__ void load_row(int i, int first, bool after_forward) {
    const bool last = rows.load(i, first + i, problem, rows.stream, head);
    const bool present = rows.present(i);
    if (i == 0) rows.first_position = present ? rows.position[0] : 0;
    if (i == 0 && !present) rows.last_position = -1;
    if (last) rows.last_position = rows.position[i];
    if (after_forward) rows.log_sum_exp[i] = present ? rows.stream.log_sum_exp[statistic_offset(rows.row[i])] : C{0};
  }

  // Adds to each score the product of its row and distance, where the chunk [row][distance - nearest] has it.
  __device__ void gather(int key0, int nearest, const C* chunk, typename Tile::Sums& scores) const {
#pragma unroll
    for (int r = 0; r < kMicro; ++r) {
      const int i = scalar_y() * kMicro + r;
      const int x0 = distance(rows.position[i], key0 + scalar_x() * kMicro) - nearest;
#pragma unroll
      for (int c = 0; c < kMicro; ++c) {
        const int x = x0 - c;
        if (x >= 0 && x < kSide) scores[r][c] += chunk[i * Tile::kStride + x];
      }
    }
  }

  __device__ void add_segment_scores(int key0, typename Tile::Sums& scores) const {
    if (problem.segment_embedding == nullptr) return;
#pragma unroll
    for (int c = 0; c < kMicro; ++c) {
#pragma unroll
      for (int r = 0; r < kMicro; ++r) {
        const int i = scalar_y() * kMicro + r;
        scores[r][c] += rows.segment_scores[segments_differ(i, key0 + scalar_x() * kMicro + c) ? 1 : 0][i];
      }
    }
  }
};

// kernel<<<blocks>>>(arguments...), of kScalarThreads threads.
template <typename T, typename... Parameters, typename... Arguments>
Status launch_tiles(const Context& context, const PermutationProblem<T>& problem, int64_t blocks, size_t shared_bytes,
                    void (*kernel)(Parameters...), const Arguments&... arguments) {
  if (blocks == 0) return ok_status();
  if (blocks > INT32_MAX) return make_status(StatusCode::unsupported, "attention of %lld tiles", static_cast<long long>(blocks));
  return launch({kOperatorNames[static_cast<int>(problem.shared.op)], dim3(static_cast<unsigned>(blocks)), dim3(kScalarThreads), shared_bytes,
                 context.stream},
                kernel, arguments...);
}

}  // namespace xlformers::cuda
