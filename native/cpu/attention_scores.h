// Scores of a group of kTileRows queries against a block of keys, the relative term included.
//
// The relative score of (i, j) is (q_i + v) . r_{M + i - j}: constant along diagonals. With the positions of a whole region packed in
// order of j - i, U = (q + v) R^T has for row r the scores of consecutive keys at consecutive columns, one column earlier for each
// following row. Shifting is a pointer offset per row; nothing is moved.
#pragma once

#include "cpu/attention_tile.h"

XL_KERNELS_BEGIN

// Keys and positions of a region: queries [query_start, + padded_queries) against keys [key_start, + padded_keys).
template <typename T>
struct AttentionRegion {
  int64_t head_dim;
  int64_t query_start, padded_queries;  // a multiple of kQueryBlock
  int64_t key_start, keys, padded_keys;  // a multiple of kKeyBlock
  T* key_panels;       // padded_keys columns
  T* position_panels;  // diagonals() columns: column x is for j - i = x - (padded_queries - 1), both counted from the region's start

  // A multiple of kPanel, with one panel to spare for groups that start inside a panel.
  int64_t diagonals() const { return round_up(padded_keys + padded_queries, kPanel<T>) + kPanel<T>; }
  static int64_t panel_elements(int64_t columns, int64_t head_dim) { return round_up(columns, kPanel<T>) * head_dim; }

  // The distance M + i - j of diagonal x.
  int64_t distance(const AttentionHead<T>& head, int64_t x) const {
    return head.params.memory.length + query_start - key_start + padded_queries - 1 - x;
  }

  void pack(const AttentionHead<T>& head) {
    for (int64_t j = 0; j < padded_keys; ++j) {
      if (j < keys) pack_column(head.key(key_start + j), head_dim, j, key_panels);
      else zero_column(head_dim, j, key_panels);
    }
    for (int64_t x = 0; x < diagonals(); ++x) {
      const T* position = head.position(distance(head, x));
      if (position != nullptr) pack_column(position, head_dim, x, position_panels);
      else zero_column(head_dim, x, position_panels);
    }
  }
};

// A block of queries, biases added and scaled, stored by columns: [head_dim][kQueryBlock].
template <typename T>
struct QueryBlock {
  T* content;   // scale * (q + u)
  T* position;  // scale * (q + v)

  static constexpr int64_t elements(int64_t head_dim) { return head_dim * kQueryBlock; }

  void pack(const AttentionHead<T>& head, int64_t first, int64_t count) {
    const int64_t head_dim = head.params.head_dim;
    const T scale = static_cast<T>(head.params.scale);
    const T* u = head.content_bias();
    const T* v = head.position_bias();
    for (int64_t r = 0; r < kQueryBlock; ++r) {
      const T* query = r < count ? head.query(first + r) : nullptr;
      for (int64_t k = 0; k < head_dim; ++k) {
        const T q = query == nullptr ? T{0} : query[k];
        content[k * kQueryBlock + r] = query == nullptr ? T{0} : scale * (u == nullptr ? q : q + u[k]);
        position[k * kQueryBlock + r] = query == nullptr ? T{0} : scale * (v == nullptr ? q : q + v[k]);
      }
    }
  }
};

// Columns that a group's U reaches: a key block, the rows' shifts, and what panels add on both sides.
template <typename T>
constexpr int64_t kShiftedColumns = kKeyBlock + kTileRows + 2 * kPanel<T>;

// The keys of a block, [begin, end) counted from the block's start, that some query of a group sees.
struct GroupRange {
  int64_t begin, end;

  bool empty() const { return begin >= end; }
};

template <typename T>
static inline GroupRange visible_range(const AttentionHead<T>& head, int64_t first_query, int64_t last_query, int64_t block_start) {
  return {larger(0, head.first_key(first_query) - block_start),
          smaller(kKeyBlock, head.end_key(last_query) - block_start)};
}

// scores[kTileRows][kKeyBlock] for the columns of `range`; `shifted` is scratch [kTileRows][kShiftedColumns].
// Rows of the group start at `row` of the query block; `query_offset` and `key_offset` are the blocks' starts in the region.
template <typename T>
static inline void score_group(const AttentionRegion<T>& region, const QueryBlock<T>& queries, int64_t query_offset, int64_t row,
                               int64_t key_offset, GroupRange range, T* scores, T* shifted) {
  const int64_t head_dim = region.head_dim;
  const int64_t first_panel = range.begin / kPanel<T>;
  const int64_t last_panel = (range.end + kPanel<T> - 1) / kPanel<T>;
  const int64_t block_panels = key_offset / kPanel<T>;
  panel_product<T>(block_panels + first_panel, block_panels + last_panel, head_dim, queries.content + row, 1, kQueryBlock,
                   region.key_panels, scores + first_panel * kPanel<T>, kKeyBlock);
  // Diagonal of (group row r, key jj): origin - r + jj.
  const int64_t origin = key_offset - query_offset - row + region.padded_queries - 1;
  const int64_t u_first = (origin + range.begin - (kTileRows - 1)) / kPanel<T>;
  const int64_t u_last = (origin + range.end + kPanel<T> - 1) / kPanel<T>;
  panel_product<T>(u_first, u_last, head_dim, queries.position + row, 1, kQueryBlock, region.position_panels, shifted,
                   kShiftedColumns<T>);
  for (int r = 0; r < kTileRows; ++r) {
    T* s = scores + r * kKeyBlock;
    const T* u = shifted + r * kShiftedColumns<T> + (origin - r - u_first * kPanel<T>);
    int64_t j = range.begin;
    for (; j + kLanes<T> <= range.end; j += kLanes<T>) store(s + j, load(s + j) + load(u + j));
    for (; j < range.end; ++j) s[j] += u[j];
  }
}

XL_KERNELS_END
