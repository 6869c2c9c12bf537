// Gradients of permutation attention. Probabilities are computed again from the saved log-sum-exp, tile by tile (Dao et al. 2022).
// With P the probabilities, dP = dropout(dO V^T) and D_n = dO_n . O_n:  dS = P (dP - D).
//   dQ = scale (dS K + dU R + S_0 e_0 + S_1 e_1),  dK = dS^T scale (Q + u),  dV = dropout(P)^T dO,  dR = dU^T scale (Q + v),
//   de_w = sum of S_w scale (q + s),  where dU is dS along diagonals and S_w the row's sum of dS over keys of the same / another segment
// A query that sees nothing has P = 1 / keys, and its gradient flows as through any other: XLNet hides by subtracting a constant.
// A task owns one (batch, head), both streams; what the batch shares is summed in its order. Nothing depends on the number of threads.
#include "cpu/attention_dropout.h"
#include "cpu/kernel.h"
#include "cpu/permutation_rows.h"

XL_KERNELS_BEGIN

namespace {

template <typename T>
constexpr int64_t kShiftedStride = kKeyBlock + kGroupSpan + 2 * kPanel<T>;
constexpr int64_t kDiagonalStride = kKeyBlock + kBlockSpan + kQueryBlock;  // diagonals of a tile, in whole groups

// Gradients of one (batch, head) that the batch shares: [kSharedRows][padded].
enum SharedRow { kContentBias, kPositionBias, kSegmentBias, kSameSegment, kOtherSegment, kSharedRows };

template <typename T>
struct Scratch {
  T* key_panels;    // for S = Q K^T
  T* value_panels;  // for dP = dO V^T
  T* key_rows;      // [padded keys][padded] for dQ
  T* key_gradient;  // [padded keys][padded]
  T* value_gradient;
  T* query_content;  // columns, see QueryBlock
  T* query_position;
  T* out_gradient;         // by columns [head_dim][kQueryBlock]
  T* content_rows;         // [kQueryBlock][padded]: scale (q + u)
  T* position_query_rows;  // scale (q + v)
  T* out_gradient_rows;
  T* scores;  // [kTileRows][kKeyBlock]
  T* shifted;
  T* probabilities;      // [kQueryBlock][kKeyBlock], dropped
  T* score_gradient;     // dS
  T* diagonal_gradient;  // dU [kQueryBlock][kDiagonalStride]
  T* query_gradient;     // [kQueryBlock][padded], content part
  T* query_gradient_position;
};
constexpr int kScratchArrays = sizeof(Scratch<float>) / sizeof(float*);

template <typename T>
void scratch_sizes(const PermutationExtent<T>& e, int64_t* sizes) {
  const int64_t columns = QueryBlock<T>::elements(e.head_dim);
  const int64_t rows = kQueryBlock * e.padded;
  const int64_t keys = e.padded_keys * e.padded;
  const int64_t all[] = {e.padded_keys * e.head_dim, e.padded_keys * e.head_dim, keys, keys, keys, columns, columns, columns, rows, rows,
                         rows, kTileRows * kKeyBlock, kTileRows * kShiftedStride<T>, kQueryBlock * kKeyBlock, kQueryBlock * kKeyBlock,
                         kQueryBlock * kDiagonalStride, rows, rows};
  static_assert(sizeof all / sizeof *all == kScratchArrays, "one size for each member");
  for (int i = 0; i < kScratchArrays; ++i) sizes[i] = round_up(all[i], kPanel<T>);
}

// What all tasks read.
template <typename T>
struct Problem {
  const PermutationAttentionGradientParams& params;
  const PermutationAttentionParams& forward;
  RelativeAttentionParams view;
  KeyTables tables;
  PermutationExtent<T> extent;
  PositionPanels<T> position_panels;
  PositionRows<T> position_rows;
  StreamPlan content, query;

  explicit Problem(const PermutationAttentionGradientParams& p)
      : params(p), forward(p.forward), view(relative_view(p.forward)), extent(p.forward) {}

  PermutationHead<T> head(int64_t pair) const { return {forward, tables, {view, pair / forward.heads, pair % forward.heads}}; }
};

// A stream with its gradients.
struct StreamGradient {
  const AttentionStream& stream;
  const StreamPlan& plan;
  const void* out_gradient;
  void* query_gradient;
  DropoutMask mask;
};

template <typename T>
class PairGradient {
 public:
  PairGradient(const Problem<T>& problem, int64_t pair, const Scratch<T>& scratch, T* position_gradient, T* shared_gradients)
      : problem_(problem), extent_(problem.extent), head_(problem.head(pair)), scratch_(scratch),
        position_panels_(problem.position_panels.of(head_)), position_rows_(problem.position_rows.of(head_)),
        position_gradient_(position_gradient), shared_(shared_gradients) {}

  void run(const StreamGradient& content, const StreamGradient& query) {
    pack();
    zero(extent_.padded_keys * extent_.padded, scratch_.key_gradient);
    zero(extent_.padded_keys * extent_.padded, scratch_.value_gradient);
    zero(extent_.diagonals * extent_.padded, position_gradient_);
    zero(kSharedRows * extent_.padded, shared_);
    add_stream(content);
    add_stream(query);
    write_rows(head_.params.memory, 0, problem_.params.memory_key_gradient, problem_.params.memory_value_gradient);
    write_rows(head_.params.current, head_.memory_length(), problem_.params.current_key_gradient,
               problem_.params.current_value_gradient);
  }

 private:
  void pack() {
    const int64_t keys = extent_.keys;
    pack_panels<T>(extent_.padded_keys, extent_.head_dim, [&](int64_t j) { return j < keys ? head_.rows.key(j) : nullptr; },
                   scratch_.key_panels);
    pack_panels<T>(extent_.padded_keys, extent_.head_dim, [&](int64_t j) { return j < keys ? head_.rows.value(j) : nullptr; },
                   scratch_.value_panels);
    for (int64_t j = 0; j < extent_.padded_keys; ++j) {
      T* const row = scratch_.key_rows + j * extent_.padded;
      if (j < keys) copy_padded(head_.rows.key(j), extent_.head_dim, extent_.padded, row);
      else zero(extent_.padded, row);
    }
  }

  T* query_gradient_row(const StreamGradient& g, int64_t n) const {
    return static_cast<T*>(g.query_gradient) + head_.rows.batch * g.stream.batch_stride + n * g.stream.row_stride +
           head_.rows.head * extent_.head_dim;
  }

  void add_stream(const StreamGradient& g) {
    if (g.stream.length == 0) return;
    clear_absent_rows(g);
    const StreamRows rows = g.plan.rows(head_.rows.batch);
    for (int64_t block = 0; block < rows.block_count; ++block) query_block(g, rows, rows.blocks[block]);
  }

  void clear_absent_rows(const StreamGradient& g) const {
    if (g.stream.positions == nullptr) return;
    for (int64_t n = 0; n < g.stream.length; ++n) {
      if (g.stream.positions[head_.rows.batch * g.stream.length + n] < 0) zero(extent_.head_dim, query_gradient_row(g, n));
    }
  }

  // Queries and output gradients of a block by columns and by rows; delta_[slot] = dO . O.
  void pack_queries(const StreamGradient& g) {
    const auto row_of = [&](int64_t slot) { return queries_.slots[slot].row; };
    QueryBlock<T> block{scratch_.content_rows, scratch_.position_query_rows, scratch_.query_content, scratch_.query_position};
    block.pack(queries_.slot_count(), extent_.head_dim, static_cast<T>(head_.params.scale), head_.rows.content_bias(),
               head_.rows.position_bias(),
               [&](int64_t slot) { return row_of(slot) < 0 ? nullptr : head_.query(g.stream, row_of(slot)); });
    const T head_scale = head_.rows.scale_of_head();
    zero(kQueryBlock * extent_.padded, scratch_.out_gradient_rows);
    for (int64_t slot = 0; slot < queries_.slot_count(); ++slot) {
      if (row_of(slot) < 0) continue;
      const int64_t at = head_.out_offset(g.stream, row_of(slot));
      const T* const gradient = static_cast<const T*>(g.out_gradient) + at;
      const T* const out = static_cast<const T*>(g.stream.out) + at;
      T* const row = scratch_.out_gradient_rows + slot * extent_.padded;
      T delta = 0;
      for (int64_t k = 0; k < extent_.head_dim; ++k) {
        row[k] = gradient[k] * head_scale;
        delta += gradient[k] * out[k];  // `out` carries the head's scale already
      }
      delta_[slot] = delta;
      same_sum_[slot] = 0;
      different_sum_[slot] = 0;
    }
    QueryBlock<T>::transpose_block(scratch_.out_gradient_rows, extent_.head_dim, extent_.padded, scratch_.out_gradient);
  }

  void query_block(const StreamGradient& g, const StreamRows& rows, const RowBlock& block) {
    queries_.make(head_, g.stream, rows, block);
    pack_queries(g);
    zero(kQueryBlock * extent_.padded, scratch_.query_gradient);
    zero(kQueryBlock * extent_.padded, scratch_.query_gradient_position);
    const BlockVisibility<T> visibility(head_, g.stream, queries_);
    for (int64_t start = 0; start < extent_.keys; start += kKeyBlock) {
      const int64_t count = smaller(kKeyBlock, extent_.keys - start);
      if (!visibility.passes_over(start, count)) tile(g, start, count);
    }
    write_query_gradients(g);
  }

  void tile(const StreamGradient& g, int64_t start, int64_t count) {
    const int64_t slots = queries_.slot_count();
    // Diagonals of the tile, from that of the last position and the first key on.
    const int64_t diagonals = queries_.last_position - queries_.first_position + count;
    const int64_t first_diagonal = extent_.diagonal(start, queries_.last_position);
    for (int64_t slot = 0; slot < slots; ++slot) {
      zero(round_up(diagonals, kTileRows), scratch_.diagonal_gradient + slot * kDiagonalStride);
    }
    zero(slots * kKeyBlock, scratch_.probabilities);
    zero(slots * kKeyBlock, scratch_.score_gradient);
    for (int64_t group = 0; group < queries_.groups; ++group) group_gradient(g, group, start, count, first_diagonal);
    // Gradients of keys, values and positions, a group of them at a time: the queries are the inner dimension.
    for (int64_t j = 0; j < count; j += kTileRows) {
      const int64_t at = (start + j) * extent_.padded;
      add_product(extent_.padded, slots, scratch_.score_gradient + j, 1, kKeyBlock, scratch_.content_rows, extent_.padded,
                  scratch_.key_gradient + at, extent_.padded);
      add_product(extent_.padded, slots, scratch_.probabilities + j, 1, kKeyBlock, scratch_.out_gradient_rows, extent_.padded,
                  scratch_.value_gradient + at, extent_.padded);
    }
    for (int64_t x = 0; x < diagonals; x += kTileRows) {
      add_product(extent_.padded, slots, scratch_.diagonal_gradient + x, 1, kDiagonalStride, scratch_.position_query_rows,
                  extent_.padded, position_gradient_ + (first_diagonal + x) * extent_.padded, extent_.padded);
    }
  }

  void group_gradient(const StreamGradient& g, int64_t group, int64_t start, int64_t count, int64_t first_diagonal) {
    const int64_t first = group * kTileRows;
    const int64_t rows = queries_.group_rows[group];
    const QueryBlock<T> packed{scratch_.content_rows, scratch_.position_query_rows, scratch_.query_content, scratch_.query_position};
    int64_t origins[kTileRows];
    for (int r = 0; r < kTileRows; ++r) origins[r] = extent_.diagonal(start, queries_.slots[first + r].position);
    score_rows<T>(extent_.head_dim, scratch_.key_panels, position_panels_, packed, first, start, {0, count}, origins, scratch_.scores,
                  scratch_.shifted, kShiftedStride<T>);
    T* const gradient = scratch_.score_gradient + first * kKeyBlock;
    const int64_t panels = (count + kPanel<T> - 1) / kPanel<T>;
    panel_product<T>(start / kPanel<T>, start / kPanel<T> + panels, extent_.head_dim, scratch_.out_gradient + first, 1, kQueryBlock,
                     scratch_.value_panels, gradient, kKeyBlock);
    for (int64_t r = 0; r < kTileRows; ++r) {
      T* const row_gradient = gradient + r * kKeyBlock;
      // What the tiles computed beyond the rows and keys that there are.
      const int64_t present = r < rows ? count : 0;
      zero(kKeyBlock - present, row_gradient + present);
      if (r >= rows) continue;
      row_score_gradient(g, first + r, start, count, scratch_.scores + r * kKeyBlock, row_gradient,
                         scratch_.diagonal_gradient + (first + r) * kDiagonalStride + (origins[r] - first_diagonal));
    }
    add_product(extent_.padded, count, gradient, kKeyBlock, 1, scratch_.key_rows + start * extent_.padded, extent_.padded,
                scratch_.query_gradient + first * extent_.padded, extent_.padded);
    // The group's diagonals: from its last row's first key to its first row's last.
    const int64_t x_begin = origins[rows - 1] - first_diagonal;
    const int64_t x_end = origins[0] - first_diagonal + count;
    add_product(extent_.padded, x_end - x_begin, scratch_.diagonal_gradient + first * kDiagonalStride + x_begin, kDiagonalStride, 1,
                position_rows_ + (first_diagonal + x_begin) * extent_.padded, extent_.padded,
                scratch_.query_gradient_position + first * extent_.padded, extent_.padded);
  }

  // s: scores without segments and masks. dp: dO V^T, becomes dS. diagonal: where dS of the first key goes along diagonals.
  void row_score_gradient(const StreamGradient& g, int64_t slot, int64_t start, int64_t count, T* s, T* dp, T* diagonal) {
    const PermutationQuery<T>& query = queries_.slots[slot];
    T* const kept = scratch_.probabilities + slot * kKeyBlock;
    head_.finish_scores(g.stream, query, start, count, s);
    const T log_sum_exp = static_cast<const T*>(g.stream.log_sum_exp)[head_.statistic_offset(g.stream, query.row)];
    if (log_sum_exp < kBlindLogSumExp<T>) {
      const T share = T{1} / static_cast<T>(extent_.keys);
      for (int64_t j = 0; j < count; ++j) s[j] = share;
    } else {
      exponentials(s, count, log_sum_exp);
    }
    if (g.mask.threshold > 0) {
      drop(g.mask, head_.rows.pair(), query.row, start, 0, count, s, kept);
      drop(g.mask, head_.rows.pair(), query.row, start, 0, count, dp, dp);
    } else {
      __builtin_memcpy(kept, s, static_cast<size_t>(count) * sizeof(T));
    }
    const T delta = delta_[slot];
    for (int64_t j = 0; j < count; ++j) {
      const T value = s[j] * (dp[j] - delta);
      dp[j] = value;
      diagonal[j] = value;
    }
    if (head_.tables.segments == nullptr) return;
    const int32_t* const segments = head_.tables.segments + head_.rows.batch * extent_.keys + start;
    T same = 0;
    T all = 0;
    for (int64_t j = 0; j < count; ++j) {
      all += dp[j];
      same += segments[j] == query.segment ? dp[j] : T{0};
    }
    same_sum_[slot] += same;
    different_sum_[slot] += all - same;
  }

  static void exponentials(T* p, int64_t count, T shift) {
    int64_t j = 0;
    for (; j + kLanes<T> <= count; j += kLanes<T>) store(p + j, exponential(load(p + j) - shift));
    if (j < count) {
      const int rest = static_cast<int>(count - j);
      store_partial<T>(p + j, exponential(load_partial(p + j, rest) - shift), rest);
    }
  }

  void write_query_gradients(const StreamGradient& g) {
    const T scale = static_cast<T>(head_.params.scale);
    const auto shared = [&](SharedRow row) { return shared_ + row * extent_.padded; };
    const bool segments = head_.tables.segments != nullptr;
    const T* const same_embedding = segments ? head_.segment_embedding(0) : nullptr;
    const T* const different_embedding = segments ? head_.segment_embedding(1) : nullptr;
    const T* const segment_bias = head_.segment_bias();
    for (int64_t slot = 0; slot < queries_.slot_count(); ++slot) {
      const int64_t n = queries_.slots[slot].row;
      if (n < 0) continue;
      const T* const content = scratch_.query_gradient + slot * extent_.padded;
      const T* const position = scratch_.query_gradient_position + slot * extent_.padded;
      T* const out = query_gradient_row(g, n);
      for (int64_t k = 0; k < extent_.head_dim; ++k) {
        out[k] = scale * (content[k] + position[k]);
        shared(kContentBias)[k] += scale * content[k];
        shared(kPositionBias)[k] += scale * position[k];
      }
      if (!segments) continue;
      const T* const q = head_.query(g.stream, n);
      const T same = scale * same_sum_[slot];
      const T different = scale * different_sum_[slot];
      for (int64_t k = 0; k < extent_.head_dim; ++k) {
        const T biased = segment_bias == nullptr ? q[k] : q[k] + segment_bias[k];
        const T gradient = same * same_embedding[k] + different * different_embedding[k];
        out[k] += gradient;
        shared(kSegmentBias)[k] += gradient;
        shared(kSameSegment)[k] += same * biased;
        shared(kOtherSegment)[k] += different * biased;
      }
    }
  }

  void write_rows(const AttentionRows& rows, int64_t first, void* keys, void* values) const {
    for (int64_t j = 0; j < rows.length; ++j) {
      const int64_t to = head_.rows.batch * rows.batch_stride + j * rows.row_stride + head_.rows.head * extent_.head_dim;
      const size_t bytes = static_cast<size_t>(extent_.head_dim) * sizeof(T);
      __builtin_memcpy(static_cast<T*>(keys) + to, scratch_.key_gradient + (first + j) * extent_.padded, bytes);
      __builtin_memcpy(static_cast<T*>(values) + to, scratch_.value_gradient + (first + j) * extent_.padded, bytes);
    }
  }

  const Problem<T>& problem_;
  const PermutationExtent<T>& extent_;
  const PermutationHead<T> head_;
  const Scratch<T>& scratch_;
  const T* position_panels_;
  const T* position_rows_;
  T* position_gradient_;  // [diagonals][padded]
  T* shared_;             // [kSharedRows][padded]
  BlockQueries<T> queries_;
  T delta_[kQueryBlock];
  T same_sum_[kQueryBlock];
  T different_sum_[kQueryBlock];
};

// Sums over the batch, in its order, of what it shares.
template <typename T>
void reduce_over_batch(Context& context, const Problem<T>& problem, const T* positions, const T* shared) {
  const PermutationAttentionParams& forward = problem.forward;
  const PermutationExtent<T>& e = problem.extent;
  const int64_t position_size = e.diagonals * e.padded;
  const int64_t nearest_diagonal = e.distance(forward.memory.length, 0);
  context.pool.parallel_for(forward.position_rows, [&](int64_t row, int) {
    const int64_t distance = forward.first_distance + row;
    for (int64_t h = 0; h < forward.heads; ++h) {
      T* const to = static_cast<T*>(problem.params.position_gradient) + row * forward.position_row_stride + h * e.head_dim;
      zero(e.head_dim, to);
      for (int64_t b = 0; b < forward.batch; ++b) {
        const int64_t x = nearest_diagonal - (b >= forward.reversed_from ? -distance : distance);
        if (x < 0 || x >= e.diagonals) continue;
        const T* const from = positions + (b * forward.heads + h) * position_size + x * e.padded;
        for (int64_t k = 0; k < e.head_dim; ++k) to[k] += from[k];
      }
    }
  });
  const auto reduce = [&](SharedRow which, void* out, int64_t first_row) {
    if (out == nullptr) return;
    for (int64_t h = 0; h < forward.heads; ++h) {
      T* const to = static_cast<T*>(out) + (first_row * forward.heads + h) * e.head_dim;
      zero(e.head_dim, to);
      for (int64_t b = 0; b < forward.batch; ++b) {
        const T* const from = shared + ((b * forward.heads + h) * kSharedRows + which) * e.padded;
        for (int64_t k = 0; k < e.head_dim; ++k) to[k] += from[k];
      }
    }
  };
  reduce(kContentBias, problem.params.content_bias_gradient, 0);
  reduce(kPositionBias, problem.params.position_bias_gradient, 0);
  reduce(kSegmentBias, problem.params.segment_bias_gradient, 0);
  reduce(kSameSegment, problem.params.segment_embedding_gradient, 0);
  reduce(kOtherSegment, problem.params.segment_embedding_gradient, 1);
}

template <typename T>
Status differentiate(Context& context, const PermutationAttentionGradientParams& params) {
  const PermutationAttentionParams& forward = params.forward;
  Problem<T> problem(params);
  Status status = refuse_ring(forward.memory);
  if (status.ok()) status = check_memory_starts(forward);
  if (!status.ok()) return status;
  problem.tables.make(context.workspace, forward);
  status = problem.content.make(context.workspace, forward.content, forward.batch, forward.current.length);
  if (status.ok()) status = problem.query.make(context.workspace, forward.query, forward.batch, forward.current.length);
  if (!status.ok()) return status;
  const PermutationExtent<T>& extent = problem.extent;
  problem.position_panels.make(context.pool, context.workspace, forward, problem.view, problem.tables, extent);
  problem.position_rows.make(context.pool, context.workspace, forward, problem.view, problem.tables, extent);
  const StreamGradient content{forward.content, problem.content, params.content_out_gradient, params.content_gradient,
                               dropout_mask(forward.dropout, forward.seed, forward.content.offset)};
  const StreamGradient query{forward.query, problem.query, params.query_out_gradient, params.query_gradient,
                             dropout_mask(forward.dropout, forward.seed, forward.query.offset)};

  int64_t sizes[kScratchArrays];
  scratch_sizes(extent, sizes);
  int64_t total = 0;
  for (const int64_t size : sizes) total += size;
  const int64_t pairs = forward.batch * forward.heads;
  const int64_t position_size = extent.diagonals * extent.padded;
  T* const positions = context.workspace.allocate<T>(pairs * position_size);
  T* const shared = context.workspace.allocate<T>(pairs * kSharedRows * extent.padded);
  T* const memory = context.workspace.allocate<T>(total * context.pool.threads());
  context.pool.parallel_for(pairs, [&](int64_t pair, int worker) {
    Scratch<T> scratch;
    T** const members = reinterpret_cast<T**>(&scratch);
    T* next = memory + worker * total;
    for (int i = 0; i < kScratchArrays; ++i) {
      members[i] = next;
      next += sizes[i];
    }
    PairGradient<T>(problem, pair, scratch, positions + pair * position_size, shared + pair * kSharedRows * extent.padded)
        .run(content, query);
  });
  reduce_over_batch(context, problem, positions, shared);
  return ok_status();
}

}  // namespace

Status permutation_attention_gradient(Context& context, const void* params) {
  const auto& p = *static_cast<const PermutationAttentionGradientParams*>(params);
  switch (p.forward.dtype) {
    case DType::f32: return differentiate<float>(context, p);
    case DType::f64: return differentiate<double>(context, p);
    default: return make_status(StatusCode::unsupported, "dtype %s, expected f32 or f64", dtype_name(p.forward.dtype));
  }
}

XL_KERNELS_END
