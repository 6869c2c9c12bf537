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
    pack_panels<T>(padded_keys, head_dim, [&](int64_t j) { return j < keys ? head.key(key_start + j) : nullptr; }, key_panels);
    pack_panels<T>(diagonals(), head_dim, [&](int64_t x) { return head.position(distance(head, x)); }, position_panels);
  }
};

// A block of queries, biases added and scaled: by rows, and by columns [head_dim][kQueryBlock].
template <typename T>
struct QueryBlock {
  T* content_rows;   // [kQueryBlock][padded head_dim]: scale * (q + u)
  T* position_rows;  // scale * (q + v)
  T* content;
  T* position;

  static constexpr int64_t elements(int64_t head_dim) { return head_dim * kQueryBlock; }

  void pack(const AttentionHead<T>& head, int64_t first, int64_t count) {
    pack(count, head.params.head_dim, static_cast<T>(head.params.scale), head.content_bias(), head.position_bias(),
         [&](int64_t r) { return head.query(first + r); });
  }

  // query(r): row r of the block, r < count; null: a row of zeros.
  template <typename Query>
  void pack(int64_t count, int64_t head_dim, T scale, const T* content_bias, const T* position_bias, const Query& query) {
    const int64_t padded = round_up(head_dim, kLanes<T>);
    for (int64_t r = 0; r < count; ++r) {
      const T* row = query(r);
      if (row == nullptr) {
        zero(padded, content_rows + r * padded);
        zero(padded, position_rows + r * padded);
        continue;
      }
      add_bias(row, content_bias, scale, head_dim, padded, content_rows + r * padded);
      add_bias(row, position_bias, scale, head_dim, padded, position_rows + r * padded);
    }
    zero((kQueryBlock - count) * padded, content_rows + count * padded);
    zero((kQueryBlock - count) * padded, position_rows + count * padded);
    transpose_block(content_rows, head_dim, padded, content);
    transpose_block(position_rows, head_dim, padded, position);
  }

  // [kQueryBlock][padded] to [head_dim][kQueryBlock].
  static void transpose_block(const T* rows, int64_t head_dim, int64_t padded, T* columns) {
    const T* pointers[kQueryBlock];
    for (int64_t r = 0; r < kQueryBlock; ++r) pointers[r] = rows + r * padded;
    transpose_rows(pointers, kQueryBlock, head_dim, columns, kQueryBlock);
  }

 private:
  static void add_bias(const T* query, const T* bias, T scale, int64_t head_dim, int64_t padded, T* out) {
    if (bias == nullptr) {
      for (int64_t k = 0; k < head_dim; ++k) out[k] = scale * query[k];
    } else {
      for (int64_t k = 0; k < head_dim; ++k) out[k] = scale * (query[k] + bias[k]);
    }
    for (int64_t k = head_dim; k < padded; ++k) out[k] = 0;
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

// scores[kTileRows][kKeyBlock] for the columns of `range`; `shifted` is scratch [kTileRows][shifted_stride]. Rows of the group start at
// `row` of the query block, keys at `key_offset`, a multiple of kKeyBlock. origins[r]: the diagonal of row r and the block's first key.
template <typename T>
static inline void score_rows(int64_t head_dim, const T* key_panels, const T* position_panels, const QueryBlock<T>& queries, int64_t row,
                              int64_t key_offset, GroupRange range, const int64_t* origins, T* scores, T* shifted,
                              int64_t shifted_stride) {
  const int64_t first_panel = range.begin / kPanel<T>;
  const int64_t last_panel = (range.end + kPanel<T> - 1) / kPanel<T>;
  const int64_t block_panels = key_offset / kPanel<T>;
  panel_product<T>(block_panels + first_panel, block_panels + last_panel, head_dim, queries.content + row, 1, kQueryBlock, key_panels,
                   scores + first_panel * kPanel<T>, kKeyBlock);
  int64_t lowest = origins[0];
  int64_t highest = origins[0];
  for (int r = 1; r < kTileRows; ++r) {
    lowest = smaller(lowest, origins[r]);
    highest = larger(highest, origins[r]);
  }
  const int64_t u_first = (lowest + range.begin) / kPanel<T>;
  const int64_t u_last = (highest + range.end + kPanel<T> - 1) / kPanel<T>;
  panel_product<T>(u_first, u_last, head_dim, queries.position + row, 1, kQueryBlock, position_panels, shifted, shifted_stride);
  for (int r = 0; r < kTileRows; ++r) {
    T* s = scores + r * kKeyBlock;
    const T* u = shifted + r * shifted_stride + (origins[r] - u_first * kPanel<T>);
    int64_t j = range.begin;
    for (; j + kLanes<T> <= range.end; j += kLanes<T>) store(s + j, load(s + j) + load(u + j));
    for (; j < range.end; ++j) s[j] += u[j];
  }
}

// The same for consecutive queries; `query_offset` and `key_offset` are the blocks' starts in the region.
template <typename T>
static inline void score_group(const AttentionRegion<T>& region, const QueryBlock<T>& queries, int64_t query_offset, int64_t row,
                               int64_t key_offset, GroupRange range, T* scores, T* shifted) {
  int64_t origins[kTileRows];
  for (int r = 0; r < kTileRows; ++r) origins[r] = key_offset - query_offset - row - r + region.padded_queries - 1;
  score_rows(region.head_dim, region.key_panels, region.position_panels, queries, row, key_offset, range, origins, scores, shifted,
             kShiftedColumns<T>);
}

XL_KERNELS_END
