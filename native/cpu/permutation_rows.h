// What the permutation attention kernels share: the keys' ranks and segments, one (batch, head) of the problem, and what a query may see.
#pragma once

#include "core/permutation_view.h"
#include "cpu/attention_scores.h"
#include "cpu/attention_softmax.h"
#include "cpu/permutation_plan.h"
#include "cpu/thread_pool.h"

XL_KERNELS_BEGIN

// XLNet subtracts 1e30 from what is hidden, which leaves nothing of the score: a row that sees no key averages over all of them.
template <typename T>
constexpr T kHiddenScore = static_cast<T>(-1e30);
// The log-sum-exp of such a row is below this.
template <typename T>
constexpr T kBlindLogSumExp = static_cast<T>(-5e29);

// Ranks and segments of all keys, memory first: memory is visible to every rank, but for what precedes its start, and has segment 0.
struct KeyTables {
  const int32_t* ranks = nullptr;  // [batch][keys]; null: no key has one. Padding has INT32_MAX, above every query's.
  const int32_t* segments = nullptr;
  int64_t keys = 0;

  void make(Workspace& workspace, const PermutationAttentionParams& params) {
    keys = params.memory.length + params.current.length;
    if (params.key_ranks != nullptr || params.key_mask != nullptr || params.memory_starts != nullptr) {
      const auto rank = [&](int64_t row) {
        if (params.key_mask != nullptr && params.key_mask[row] != 0) return INT32_MAX;
        return params.key_ranks != nullptr ? params.key_ranks[row] : int32_t{0};
      };
      const auto memory_rank = [&](int64_t b, int64_t j) {
        return params.memory_starts != nullptr && j < params.memory_starts[b] ? INT32_MAX : INT32_MIN;
      };
      ranks = extend(workspace, params, memory_rank, rank);
    }
    if (params.segment_embedding != nullptr) {
      segments = extend(
          workspace, params, [](int64_t, int64_t) { return int32_t{0}; }, [&](int64_t row) { return params.segments[row]; });
    }
  }

 private:
  // memory(b, j) for memory rows, current(b * length + c) for current ones.
  template <typename Memory, typename Current>
  static const int32_t* extend(Workspace& workspace, const PermutationAttentionParams& params, const Memory& memory,
                               const Current& current) {
    const int64_t memory_length = params.memory.length;
    const int64_t length = params.current.length;
    int32_t* const table = workspace.allocate<int32_t>(params.batch * (memory_length + length));
    for (int64_t b = 0; b < params.batch; ++b) {
      int32_t* const row = table + b * (memory_length + length);
      for (int64_t j = 0; j < memory_length; ++j) row[j] = memory(b, j);
      for (int64_t c = 0; c < length; ++c) row[memory_length + c] = current(b * length + c);
    }
    return table;
  }
};

// A query: the row n of its stream, where it stands, and what its scores need besides products with keys and positions.
template <typename T>
struct PermutationQuery {
  int64_t row, position;
  int32_t rank, segment;
  T same, different;  // scale (q + segment_bias) . e
};

// One (batch, head).
template <typename T>
struct PermutationHead {
  const PermutationAttentionParams& params;
  const KeyTables& tables;
  AttentionHead<T> rows;

  bool reversed() const { return rows.batch >= params.reversed_from; }
  int64_t memory_length() const { return params.memory.length; }

  // r of a distance as this batch row reads it, or null.
  const T* position(int64_t distance) const { return rows.position(reversed() ? -distance : distance); }

  const T* query(const AttentionStream& stream, int64_t n) const {
    return static_cast<const T*>(stream.query) + rows.batch * stream.batch_stride + n * stream.row_stride + rows.head * params.head_dim;
  }
  int64_t out_offset(const AttentionStream& stream, int64_t n) const {
    return ((rows.batch * stream.length + n) * params.heads + rows.head) * params.head_dim;
  }
  int64_t statistic_offset(const AttentionStream& stream, int64_t n) const { return rows.pair() * stream.length + n; }

  const T* segment_bias() const {
    return params.segment_bias == nullptr ? nullptr : static_cast<const T*>(params.segment_bias) + rows.head * params.head_dim;
  }
  const T* segment_embedding(int which) const {
    return static_cast<const T*>(params.segment_embedding) + (which * params.heads + rows.head) * params.head_dim;
  }

  PermutationQuery<T> make_query(const AttentionStream& stream, int64_t n, int64_t position) const {
    PermutationQuery<T> query{n, position, INT32_MAX, 0, 0, 0};
    const int64_t at = rows.batch * params.current.length + position;
    if (params.query_ranks != nullptr) query.rank = params.query_ranks[at];
    if (tables.segments != nullptr) {
      query.segment = params.segments[at];
      query.same = segment_score(stream, n, 0);
      query.different = segment_score(stream, n, 1);
    }
    return query;
  }

  // Completes the scores of keys [start, start + count), which lie in s: adds the segment term and hides what the query may not see.
  void finish_scores(const AttentionStream& stream, const PermutationQuery<T>& query, int64_t start, int64_t count, T* s) const {
    if (tables.segments != nullptr) {
      const int32_t* const segments = tables.segments + rows.batch * tables.keys + start;
      for (int64_t j = 0; j < count; ++j) s[j] += segments[j] != query.segment ? query.different : query.same;
    }
    const int64_t own = stream.sees_itself != 0 ? memory_length() + query.position - start : -1;
    const bool has_own = own >= 0 && own < count;
    const T own_score = has_own ? s[own] : T{0};
    if (tables.ranks != nullptr) {
      const int32_t* const ranks = tables.ranks + rows.batch * tables.keys + start;
      for (int64_t j = 0; j < count; ++j) s[j] = ranks[j] >= query.rank ? kHiddenScore<T> : s[j];
    }
    if (params.mask != nullptr) {
      const int64_t length = params.current.length;
      const int64_t first = larger(0, memory_length() - start);
      const int64_t mask_batch = params.mask_batch == 1 ? 0 : rows.batch;
      const uint8_t* const mask = params.mask + (mask_batch * length + query.position) * length + (start - memory_length());
      for (int64_t j = first; j < count; ++j) s[j] = mask[j] != 0 ? kHiddenScore<T> : s[j];
    }
    const int64_t begin = smaller(count, rows.first_key(query.position) - start);
    const int64_t end = larger(0, rows.end_key(query.position) - start);
    for (int64_t j = 0; j < begin; ++j) s[j] = kHiddenScore<T>;
    for (int64_t j = end; j < count; ++j) s[j] = kHiddenScore<T>;
    if (has_own) s[own] = own_score;
  }

  // All scores of a query, keys and positions read where they lie; content and position are scratch of head_dim.
  void score_directly(const AttentionStream& stream, const PermutationQuery<T>& query, T* content, T* position_part, T* s) const {
    const T* const q = this->query(stream, query.row);
    const T scale = static_cast<T>(params.scale);
    const T* const u = rows.content_bias();
    const T* const v = rows.position_bias();
    for (int64_t k = 0; k < params.head_dim; ++k) {
      content[k] = scale * (u == nullptr ? q[k] : q[k] + u[k]);
      position_part[k] = scale * (v == nullptr ? q[k] : q[k] + v[k]);
    }
    for (int64_t j = 0; j < tables.keys; ++j) {
      const T* const r = position(memory_length() + query.position - j);
      s[j] = dot(content, rows.key(j), params.head_dim) + (r == nullptr ? T{0} : dot(position_part, r, params.head_dim));
    }
    finish_scores(stream, query, 0, tables.keys, s);
  }

 private:
  T segment_score(const AttentionStream& stream, int64_t n, int which) const {
    const T* const q = query(stream, n);
    const T* const bias = segment_bias();
    const T* const e = segment_embedding(which);
    T sum = 0;
    for (int64_t k = 0; k < params.head_dim; ++k) sum += (bias == nullptr ? q[k] : q[k] + bias[k]) * e[k];
    return static_cast<T>(params.scale) * sum;
  }
};

// The queries of a block in their slots.
template <typename T>
struct BlockQueries {
  PermutationQuery<T> slots[kQueryBlock];  // row -1: empty
  int64_t group_rows[kBlockGroups];
  int64_t groups;
  int64_t first_position, last_position;
  int32_t lowest_rank, highest_rank;

  int64_t slot_count() const { return groups * kTileRows; }

  void make(const PermutationHead<T>& head, const AttentionStream& stream, const StreamRows& rows, const RowBlock& block) {
    groups = block.groups;
    lowest_rank = INT32_MAX;
    highest_rank = INT32_MIN;
    for (int64_t g = 0; g < groups; ++g) {
      const RowGroup& group = rows.groups[block.first_group + g];
      group_rows[g] = group.count;
      for (int64_t r = 0; r < kTileRows; ++r) {
        PermutationQuery<T>& slot = slots[g * kTileRows + r];
        if (r >= group.count) {
          slot = slots[g * kTileRows + r - 1];  // any position of the group
          slot.row = -1;
          continue;
        }
        const int64_t n = rows.row(group.first + r);
        slot = head.make_query(stream, n, rows.position(n));
        lowest_rank = slot.rank < lowest_rank ? slot.rank : lowest_rank;
        highest_rank = slot.rank > highest_rank ? slot.rank : highest_rank;
        last_position = slot.position;
      }
    }
    first_position = slots[0].position;
  }
};

// Which blocks of keys a block of queries can pass over: those that are hidden from all of its rows, unless a row may be blind, whose
// average is over all keys.
template <typename T>
class BlockVisibility {
 public:
  BlockVisibility(const PermutationHead<T>& head, const AttentionStream& stream, const BlockQueries<T>& queries)
      : head_(head), highest_rank_(queries.highest_rank) {
    // Both limits of the band grow with the position.
    first_key_ = head.rows.first_key(queries.first_position);
    end_key_ = head.rows.end_key(queries.last_position);
    if (stream.sees_itself != 0) {
      own_begin_ = head.memory_length() + queries.first_position;
      own_end_ = head.memory_length() + queries.last_position + 1;
      first_key_ = smaller(first_key_, own_begin_);
      end_key_ = larger(end_key_, own_end_);
    }
    may_skip_ = stream.sees_itself != 0 || no_row_is_blind(queries.lowest_rank);
  }

  bool passes_over(int64_t start, int64_t count) const {
    if (!may_skip_) return false;
    if (start + count <= first_key_ || start >= end_key_) return true;
    const bool has_own = start < own_end_ && start + count > own_begin_;
    return head_.tables.ranks != nullptr && !has_own && lowest_key_rank(start, count) >= highest_rank_;
  }

 private:
  bool no_row_is_blind(int32_t lowest_query_rank) const {
    if (head_.params.mask != nullptr) return false;
    if (head_.tables.ranks == nullptr) return true;  // the band shows every query a key: checked above the backend
    const int64_t length = head_.params.current.length;
    const bool open = head_.params.band_upper >= length && head_.params.band_lower <= -length;
    return open && lowest_key_rank(0, head_.tables.keys) < lowest_query_rank;
  }

  int32_t lowest_key_rank(int64_t start, int64_t count) const {
    const int32_t* const ranks = head_.tables.ranks + head_.rows.batch * head_.tables.keys + start;
    int32_t lowest = INT32_MAX;
    for (int64_t j = 0; j < count; ++j) lowest = ranks[j] < lowest ? ranks[j] : lowest;
    return lowest;
  }

  const PermutationHead<T>& head_;
  int32_t highest_rank_;
  int64_t first_key_, end_key_;
  int64_t own_begin_ = 0, own_end_ = 0;
  bool may_skip_;
};

// Keys of one (batch, head) in panels, and the relative positions of one head, which batch rows of a direction share.
template <typename T>
struct PermutationExtent {
  int64_t head_dim, padded;  // padded: to whole vectors
  int64_t keys, padded_keys;
  int64_t current_length;
  // Column x of the position panels is for key j and position p with j - p = x - (current_length - 1). Panels and groups of rows of
  // the gradient may reach beyond the last.
  int64_t diagonals;

  explicit PermutationExtent(const PermutationAttentionParams& params)
      : head_dim(params.head_dim), padded(round_up(params.head_dim, kLanes<T>)), keys(params.memory.length + params.current.length),
        padded_keys(round_up(keys, kKeyBlock)), current_length(params.current.length),
        diagonals(round_up(padded_keys + params.current.length + kTileRows, kPanel<T>) + kPanel<T>) {}

  // The diagonal of a position and the first key of a block.
  int64_t diagonal(int64_t key_offset, int64_t position) const { return key_offset - position + current_length - 1; }
  int64_t distance(int64_t memory_length, int64_t x) const { return memory_length + current_length - 1 - x; }
};

// The relative positions of all heads by diagonal, for batch rows read forwards and, where there are any, backwards: as panels for
// scores, or as rows for the gradient of queries.
enum class PositionLayout { panels, rows };

template <typename T, PositionLayout kLayout>
struct Positions {
  T* directions[2] = {nullptr, nullptr};
  int64_t size = 0;  // of a head

  void make(ThreadPool& pool, Workspace& workspace, const PermutationAttentionParams& params, const RelativeAttentionParams& view,
            const KeyTables& tables, const PermutationExtent<T>& extent) {
    size = extent.diagonals * (kLayout == PositionLayout::panels ? extent.head_dim : extent.padded);
    const bool needed[2] = {params.reversed_from > 0, params.reversed_from < params.batch};
    for (int direction = 0; direction < 2; ++direction) {
      if (!needed[direction]) continue;
      T* const all = directions[direction] = workspace.allocate<T>(size * params.heads);
      pool.parallel_for(params.heads, [&](int64_t h, int) {
        const PermutationHead<T> head{params, tables, {view, direction == 0 ? 0 : params.reversed_from, h}};
        const auto row = [&](int64_t x) { return head.position(extent.distance(params.memory.length, x)); };
        if (kLayout == PositionLayout::panels) pack_panels<T>(extent.diagonals, extent.head_dim, row, all + h * size);
        else copy_rows(extent, row, all + h * size);
      });
    }
  }

  const T* of(const PermutationHead<T>& head) const { return directions[head.reversed() ? 1 : 0] + head.rows.head * size; }

 private:
  template <typename Row>
  static void copy_rows(const PermutationExtent<T>& extent, const Row& row, T* out) {
    for (int64_t x = 0; x < extent.diagonals; ++x, out += extent.padded) {
      if (row(x) == nullptr) zero(extent.padded, out);
      else copy_padded(row(x), extent.head_dim, extent.padded, out);
    }
  }
};

template <typename T>
using PositionPanels = Positions<T, PositionLayout::panels>;
template <typename T>
using PositionRows = Positions<T, PositionLayout::rows>;

XL_KERNELS_END
