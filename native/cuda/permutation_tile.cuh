// Tiles of permutation attention without tensor cores: which rows they have, what those see, and their scores.
//
// Rows of a tile stand at consecutive positions, or, in a stream that says where its rows stand, anywhere in ascending order. Consecutive
// rows take their relative term by one product along diagonals. The others take it by products with as many consecutive distances as the
// tile is wide, from which each score picks its own; as sorted rows stand close together, there are few such products.
#pragma once

#include "cuda/permutation_problem.cuh"
#include "cuda/relative_scalar_gradient.cuh"

namespace xlformers::cuda {

// What is hidden has this score, as in XLNet, where 1e30 is subtracted: a row that sees nothing averages over all keys. The log-sum-exp of
// such a row is below kBlind.
constexpr double kHiddenScore = -1e30;
constexpr double kBlind = -5e29;

// The rows of a tile, in shared memory.
template <typename T>
struct TileRows {
  using C = Compute<T>;
  static constexpr int kSide = ScalarTile<C>::kSide;

  PermutationStream<T> stream;
  bool is_query;        // of the two streams
  int row[kSide];                // of the stream, -1: none
  int position[kSide];           // -1: stands nowhere; consecutive rows go on behind the last
  const T* query[kSide];         // null: stands nowhere
  int begin[kSide], end[kSide];  // of the keys that the band shows the row
  int self[kSide];               // the key that the row sees whatever the masks say, or -1
  int rank[kSide], segment[kSide];
  C segment_scores[2][kSide];
  C log_sum_exp[kSide];                // of rows that stand somewhere, where a forward pass has been
  int first_position, last_position;  // of those that stand somewhere; none: last < first

  __device__ bool present(int i) const { return row[i] >= 0 && position[i] >= 0; }
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
  TileRows<T>& rows;
  RelativeHead<T> head;

  __device__ PermutationTile(const PermutationProblem<T>& the_problem, TileRows<T>& shared_rows, int batch, int head_index)
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
    if (key == rows.self[i]) return true;
    if (key < rows.begin[i] || key >= rows.end[i]) return false;
    const AttentionBand& band = problem.shared.band;
    if (problem.key_ranks != nullptr && problem.key_ranks[static_cast<int64_t>(head.batch) * band.keys + key] >= rows.rank[i]) return false;
    const int current = key - band.memory;
    if (problem.mask == nullptr || current < 0) return true;
    const int64_t length = problem.length;
    return problem.mask[((problem.mask_by_batch ? head.batch : 0) * length + rows.position[i]) * length + current] == 0;
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
    const PermutationStream<T>& stream = rows.stream;
    const int index = first + i;
    StreamSlot slot = {index < stream.length ? index : -1, index};
    bool last = index == stream.length - 1;
    if (stream.slots != nullptr) {
      const StreamSlot* const slots = stream.slots + static_cast<int64_t>(head.batch) * stream.length;
      slot = index < stream.length ? slots[index] : StreamSlot{-1, -1};
      last = last || (slot.row >= 0 && slots[index + 1].position < 0);
    }
    const bool present = slot.row >= 0 && slot.position >= 0;
    rows.row[i] = slot.row;
    rows.position[i] = slot.position;
    rows.query[i] = present ? stream.query.row(head.batch, slot.row, head.column()) : nullptr;
    rows.begin[i] = present ? head.first_key(slot.position) : 0;
    rows.end[i] = present ? head.end_key(slot.position) : 0;
    rows.self[i] = present && stream.sees_itself ? problem.shared.band.memory + slot.position : -1;
    if (i == 0) rows.first_position = present ? slot.position : 0;
    if (i == 0 && !present) rows.last_position = -1;
    if (present && (last || i == kSide - 1)) rows.last_position = slot.position;
    const int64_t place = static_cast<int64_t>(head.batch) * problem.length + slot.position;
    rows.rank[i] = present && problem.query_ranks != nullptr ? problem.query_ranks[place] : INT32_MAX;
    if (problem.segments != nullptr && problem.segment_embedding != nullptr) {
      rows.segment[i] = present ? problem.segments[place] : 0;
#pragma unroll
      for (int w = 0; w < 2; ++w) rows.segment_scores[w][i] = present ? stream.segment_scores[2 * statistic_offset(slot.row) + w] : C{0};
    }
    if (after_forward) rows.log_sum_exp[i] = present ? stream.log_sum_exp[statistic_offset(slot.row)] : C{0};
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
