// Fused XLNet attention, forward: both streams over keys and values packed once, online softmax over blocks of keys. Segment term,
// ranks, dense mask and band are applied to the tile of scores; nothing grows with the product of the lengths but an operand's own mask.
#include "cpu/attention_dropout.h"
#include "cpu/kernel.h"
#include "cpu/permutation_rows.h"

XL_KERNELS_BEGIN

namespace {

// Up to so many queries in both streams, packing keys costs more than it saves.
constexpr int64_t kFewQueries = 4;

template <typename T>
constexpr int64_t kShiftedStride = kKeyBlock + kGroupSpan + 2 * kPanel<T>;

template <typename T>
struct Scratch {
  T* key_panels;
  T* values;        // [padded keys][padded head_dim]
  T* content_rows;  // see QueryBlock
  T* position_rows;
  T* content;
  T* position;
  T* scores;
  T* shifted;
  T* out;  // [kQueryBlock][padded head_dim]
};
constexpr int kScratchArrays = sizeof(Scratch<float>) / sizeof(float*);

template <typename T>
void scratch_sizes(const PermutationExtent<T>& e, int64_t* sizes) {
  const int64_t rows = kQueryBlock * e.padded;
  const int64_t columns = QueryBlock<T>::elements(e.head_dim);
  const int64_t all[] = {e.padded_keys * e.head_dim, e.padded_keys * e.padded, rows, rows, columns, columns,
                         kTileRows * kKeyBlock,      kTileRows * kShiftedStride<T>, rows};
  static_assert(sizeof all / sizeof *all == kScratchArrays, "one size for each member");
  for (int i = 0; i < kScratchArrays; ++i) sizes[i] = round_up(all[i], kPanel<T>);
}

// Everything that is the same for all tasks.
template <typename T>
struct Problem {
  const PermutationAttentionParams& params;
  RelativeAttentionParams view;
  KeyTables tables;
  PermutationExtent<T> extent;
  PositionPanels<T> positions;
  StreamPlan content, query;

  explicit Problem(const PermutationAttentionParams& p) : params(p), view(relative_view(p)), extent(p) {}

  PermutationHead<T> head(int64_t pair) const { return {params, tables, {view, pair / params.heads, pair % params.heads}}; }
};

template <typename T>
void write_row(const PermutationHead<T>& head, const AttentionStream& stream, int64_t n, const T* sum, const RowState<T>& state) {
  const T factor = head.rows.scale_of_head() / state.sum;
  T* const out = static_cast<T*>(stream.out) + head.out_offset(stream, n);
  for (int64_t k = 0; k < head.params.head_dim; ++k) out[k] = sum[k] * factor;
  static_cast<T*>(stream.log_sum_exp)[head.statistic_offset(stream, n)] = state.maximum + std::log(state.sum);
}

template <typename T>
void attend_block(const Problem<T>& problem, const PermutationHead<T>& head, const AttentionStream& stream, const StreamRows& rows,
                  const RowBlock& block, const DropoutMask& mask, const Scratch<T>& scratch) {
  const PermutationExtent<T>& extent = problem.extent;
  BlockQueries<T> queries;
  queries.make(head, stream, rows, block);
  QueryBlock<T> packed{scratch.content_rows, scratch.position_rows, scratch.content, scratch.position};
  packed.pack(queries.slot_count(), extent.head_dim, static_cast<T>(head.params.scale), head.rows.content_bias(),
              head.rows.position_bias(),
              [&](int64_t r) { return queries.slots[r].row < 0 ? nullptr : head.query(stream, queries.slots[r].row); });
  zero(kQueryBlock * extent.padded, scratch.out);
  RowState<T> states[kQueryBlock];
  for (RowState<T>& state : states) state = {static_cast<T>(-1e30), 0};
  const BlockVisibility<T> visibility(head, stream, queries);
  const T* const positions = problem.positions.of(head);

  for (int64_t start = 0; start < extent.keys; start += kKeyBlock) {
    const int64_t count = smaller(kKeyBlock, extent.keys - start);
    if (visibility.passes_over(start, count)) continue;
    for (int64_t g = 0; g < queries.groups; ++g) {
      const int64_t first = g * kTileRows;
      int64_t origins[kTileRows];
      for (int r = 0; r < kTileRows; ++r) origins[r] = extent.diagonal(start, queries.slots[first + r].position);
      score_rows<T>(extent.head_dim, scratch.key_panels, positions, packed, first, start, {0, count}, origins, scratch.scores,
                    scratch.shifted, kShiftedStride<T>);
      for (int64_t r = 0; r < kTileRows; ++r) {
        T* const s = scratch.scores + r * kKeyBlock;
        if (r >= queries.group_rows[g]) {
          zero(count, s);
          continue;
        }
        const PermutationQuery<T>& query = queries.slots[first + r];
        head.finish_scores(stream, query, start, count, s);
        const T correction = exponentiate(s, 0, count, &states[first + r]);
        if (mask.threshold > 0) drop(mask, head.rows.pair(), query.row, start, 0, count, s, s);
        if (correction != 1) {
          T* const out = scratch.out + (first + r) * extent.padded;
          for (int64_t k = 0; k < extent.padded; k += kLanes<T>) store(out + k, load(out + k) * correction);
        }
      }
      add_product(extent.padded, count, scratch.scores, kKeyBlock, 1, scratch.values + start * extent.padded, extent.padded,
                  scratch.out + first * extent.padded, extent.padded);
    }
  }
  for (int64_t slot = 0; slot < queries.slot_count(); ++slot) {
    const int64_t n = queries.slots[slot].row;
    if (n >= 0) write_row(head, stream, n, scratch.out + slot * extent.padded, states[slot]);
  }
}

// Rows that stand nowhere.
template <typename T>
void clear_absent_rows(const PermutationHead<T>& head, const AttentionStream& stream) {
  if (stream.positions == nullptr) return;
  for (int64_t n = 0; n < stream.length; ++n) {
    if (stream.positions[head.rows.batch * stream.length + n] >= 0) continue;
    zero(head.params.head_dim, static_cast<T*>(stream.out) + head.out_offset(stream, n));
    static_cast<T*>(stream.log_sum_exp)[head.statistic_offset(stream, n)] = 0;
  }
}

template <typename T>
void attend_many(Context& context, Problem<T>& problem, const DropoutMask& content_mask, const DropoutMask& query_mask) {
  const PermutationAttentionParams& params = problem.params;
  const PermutationExtent<T>& extent = problem.extent;
  problem.positions.make(context.pool, context.workspace, params, problem.view, problem.tables, extent);
  int64_t sizes[kScratchArrays];
  scratch_sizes(extent, sizes);
  int64_t total = 0;
  for (const int64_t size : sizes) total += size;
  T* const memory = context.workspace.allocate<T>(total * context.pool.threads());

  // A task is all queries of a (batch, head), or a part of them where there are fewer of these than threads could use.
  const int64_t pairs = params.batch * params.heads;
  const int64_t most_chunks = (params.content.length + params.query.length + kQueryBlock - 1) / kQueryBlock;
  const int64_t chunks = smaller(most_chunks, (2 * context.pool.threads() + pairs - 1) / pairs);
  context.pool.parallel_for(pairs * chunks, [&](int64_t task, int worker) {
    const PermutationHead<T> head = problem.head(task % pairs);
    const int64_t chunk = task / pairs;
    Scratch<T> scratch;
    T** const members = reinterpret_cast<T**>(&scratch);
    T* next = memory + worker * total;
    for (int i = 0; i < kScratchArrays; ++i) {
      members[i] = next;
      next += sizes[i];
    }
    pack_panels<T>(extent.padded_keys, extent.head_dim, [&](int64_t j) { return j < extent.keys ? head.rows.key(j) : nullptr; },
                   scratch.key_panels);
    for (int64_t j = 0; j < extent.keys; ++j) {
      copy_padded(head.rows.value(j), extent.head_dim, extent.padded, scratch.values + j * extent.padded);
    }
    int64_t index = 0;
    const auto attend_stream = [&](const AttentionStream& stream, const StreamPlan& plan, const DropoutMask& mask) {
      if (stream.length == 0) return;
      if (chunk == 0) clear_absent_rows(head, stream);
      const StreamRows rows = plan.rows(head.rows.batch);
      for (int64_t block = 0; block < rows.block_count; ++block) {
        if (index++ % chunks == chunk) attend_block(problem, head, stream, rows, rows.blocks[block], mask, scratch);
      }
    };
    attend_stream(params.content, problem.content, content_mask);
    attend_stream(params.query, problem.query, query_mask);
  });
}

// For a few queries (decoding): keys, positions and values are read once, where they lie.
template <typename T>
void attend_few(Context& context, const Problem<T>& problem, const DropoutMask& content_mask, const DropoutMask& query_mask) {
  const PermutationAttentionParams& params = problem.params;
  const PermutationExtent<T>& extent = problem.extent;
  const int64_t total = extent.padded_keys + 3 * round_up(extent.head_dim, kPanel<T>);
  T* const memory = context.workspace.allocate<T>(total * context.pool.threads());
  context.pool.parallel_for(params.batch * params.heads, [&](int64_t pair, int worker) {
    const PermutationHead<T> head = problem.head(pair);
    T* const scores = memory + worker * total;
    T* const content = scores + extent.padded_keys;
    T* const position = content + round_up(extent.head_dim, kPanel<T>);
    T* const sum = position + round_up(extent.head_dim, kPanel<T>);
    const auto attend_stream = [&](const AttentionStream& stream, const DropoutMask& mask) {
      clear_absent_rows(head, stream);
      for (int64_t n = 0; n < stream.length; ++n) {
        const int64_t stands = stream.positions == nullptr ? n : stream.positions[head.rows.batch * stream.length + n];
        if (stands < 0) continue;
        head.score_directly(stream, head.make_query(stream, n, stands), content, position, scores);
        RowState<T> state{static_cast<T>(-1e30), 0};
        exponentiate(scores, 0, extent.keys, &state);
        zero(extent.head_dim, sum);
        for (int64_t start = 0; start < extent.keys; start += kKeyBlock) {
          const int64_t count = smaller(kKeyBlock, extent.keys - start);
          if (mask.threshold > 0) drop(mask, head.rows.pair(), n, start, 0, count, scores + start, scores + start);
          for (int64_t j = start; j < start + count; ++j) {
            const T* const value = head.rows.value(j);
            const T p = scores[j];
            for (int64_t k = 0; k < extent.head_dim; ++k) sum[k] += p * value[k];
          }
        }
        write_row(head, stream, n, sum, state);
      }
    };
    attend_stream(params.content, content_mask);
    attend_stream(params.query, query_mask);
  });
}

template <typename T>
Status attend(Context& context, const PermutationAttentionParams& params) {
  if (params.batch == 0 || params.current.length == 0 || params.content.length + params.query.length == 0) return ok_status();
  Problem<T> problem(params);
  Status status = check_memory_starts(params);
  if (status.ok()) status = check_ring(params.memory);
  if (!status.ok()) return status;
  problem.tables.make(context.workspace, params);
  status = problem.content.make(context.workspace, params.content, params.batch, params.current.length);
  if (status.ok()) status = problem.query.make(context.workspace, params.query, params.batch, params.current.length);
  if (!status.ok()) return status;
  const DropoutMask content_mask = dropout_mask(params.dropout, params.seed, params.content.offset);
  const DropoutMask query_mask = dropout_mask(params.dropout, params.seed, params.query.offset);
  if (params.content.length + params.query.length <= kFewQueries) attend_few(context, problem, content_mask, query_mask);
  else attend_many(context, problem, content_mask, query_mask);
  return ok_status();
}

}  // namespace

Status permutation_attention(Context& context, const void* params) {
  const auto& p = *static_cast<const PermutationAttentionParams*>(params);
  switch (p.dtype) {
    case DType::f32: return attend<float>(context, p);
    case DType::f64: return attend<double>(context, p);
    default: return make_status(StatusCode::unsupported, "dtype %s, expected f32 or f64", dtype_name(p.dtype));
  }
}

XL_KERNELS_END
