// The order in which permutation attention takes the rows of a stream. XLNet's query stream has a few rows that stand anywhere in the
// sequence; sorted by position, rows of a tile stand close together, and one product with consecutive relative positions serves them all.
#pragma once

#include "core/operators.h"
#include "core/status.h"
#include "cpu/attention_tile.h"
#include "cpu/workspace.h"

XL_KERNELS_BEGIN

// Rows of a group stand at most so far apart, those of a block so far: the width of scratch for relative scores and their gradients.
constexpr int64_t kGroupSpan = 2 * kKeyBlock;
constexpr int64_t kBlockSpan = 2 * kGroupSpan;
constexpr int64_t kBlockGroups = kQueryBlock / kTileRows;

// Up to kTileRows rows, computed in one tile.
struct RowGroup {
  int64_t first, count;  // into the order
};

// Up to kBlockGroups groups: the rows that pass over the keys together. Group g has the slots [g * kTileRows, + kTileRows) of the block.
struct RowBlock {
  int64_t first_group, groups;
};

// The plan of one batch row.
struct StreamRows {
  const int32_t* order;      // rows that stand somewhere, by position
  const int32_t* positions;  // by row; null: row n stands at n
  const RowGroup* groups;
  const RowBlock* blocks;
  int64_t block_count;

  int64_t row(int64_t index) const { return order == nullptr ? index : order[index]; }
  int64_t position(int64_t row) const { return positions == nullptr ? row : positions[row]; }
};

class StreamPlan {
 public:
  // The plan of all batch rows; StatusCode::out_of_range names a position outside [-1, current_length).
  Status make(Workspace& workspace, const AttentionStream& stream, int64_t batch, int64_t current_length) {
    stream_ = &stream;
    shared_ = stream.positions == nullptr;
    const int64_t plans = shared_ ? 1 : batch;
    order_ = shared_ ? nullptr : workspace.allocate<int32_t>(plans * stream.length);
    groups_ = workspace.allocate<RowGroup>(plans * stream.length);
    blocks_ = workspace.allocate<RowBlock>(plans * stream.length);
    block_counts_ = workspace.allocate<int64_t>(plans);
    int64_t* const starts = shared_ ? nullptr : workspace.allocate<int64_t>(current_length + 1);
    for (int64_t b = 0; b < plans; ++b) {
      int64_t count = stream.length;
      if (!shared_) {
        const Status status = sort(b, current_length, starts, &count);
        if (!status.ok()) return status;
      }
      divide(b, count);
    }
    return ok_status();
  }

  StreamRows rows(int64_t batch) const {
    const int64_t b = shared_ ? 0 : batch;
    const int64_t at = b * stream_->length;
    return {shared_ ? nullptr : order_ + at, shared_ ? nullptr : stream_->positions + at, groups_ + at, blocks_ + at,
            block_counts_[b]};
  }

 private:
  // Counting sort: by position, then by row.
  Status sort(int64_t b, int64_t current_length, int64_t* starts, int64_t* count) {
    const int32_t* const positions = stream_->positions + b * stream_->length;
    for (int64_t p = 0; p <= current_length; ++p) starts[p] = 0;
    for (int64_t n = 0; n < stream_->length; ++n) {
      if (positions[n] < -1 || positions[n] >= current_length) {
        return make_status(StatusCode::out_of_range, "position %d of row %lld, batch row %lld, expected -1 ... %lld",
                           static_cast<int>(positions[n]), static_cast<long long>(n), static_cast<long long>(b),
                           static_cast<long long>(current_length - 1));
      }
      if (positions[n] >= 0) ++starts[positions[n] + 1];
    }
    for (int64_t p = 0; p < current_length; ++p) starts[p + 1] += starts[p];
    *count = starts[current_length];
    int32_t* const order = order_ + b * stream_->length;
    for (int64_t n = 0; n < stream_->length; ++n) {
      if (positions[n] >= 0) order[starts[positions[n]]++] = static_cast<int32_t>(n);
    }
    return ok_status();
  }

  void divide(int64_t b, int64_t count) {
    const int64_t at = b * stream_->length;
    const auto position = [&](int64_t index) -> int64_t {
      return shared_ ? index : stream_->positions[at + order_[at + index]];
    };
    int64_t groups = 0;
    int64_t blocks = 0;
    int64_t block_position = 0;
    for (int64_t index = 0; index < count;) {
      const int64_t first = position(index);
      int64_t end = index + 1;
      while (end < count && end - index < kTileRows && position(end) - first <= kGroupSpan) ++end;
      const bool fits = blocks > 0 && blocks_[at + blocks - 1].groups < kBlockGroups && position(end - 1) - block_position <= kBlockSpan;
      if (fits) {
        ++blocks_[at + blocks - 1].groups;
      } else {
        blocks_[at + blocks++] = {groups, 1};
        block_position = first;
      }
      groups_[at + groups++] = {index, end - index};
      index = end;
    }
    block_counts_[b] = blocks;
  }

  const AttentionStream* stream_ = nullptr;
  bool shared_ = true;  // every batch row has the same plan
  int32_t* order_ = nullptr;
  RowGroup* groups_ = nullptr;
  RowBlock* blocks_ = nullptr;
  int64_t* block_counts_ = nullptr;
};

XL_KERNELS_END
