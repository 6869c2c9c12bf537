// The rows of a tile of permutation attention, in shared memory, and what they see.
#pragma once

#include "cuda/permutation_problem.cuh"

namespace xlformers::cuda {

// What is hidden has this score, as in XLNet, where 1e30 is subtracted: a row that sees nothing averages over all keys. The log-sum-exp of
// such a row is below kBlind.
constexpr double kHiddenScore = -1e30;
constexpr double kBlind = -5e29;

template <typename T, int kRows>
struct TileRows {
  using C = Compute<T>;

  int row[kRows];                // of the stream, -1: none
  int position[kRows];           // -1: stands nowhere; consecutive rows go on behind the last
  const T* query[kRows];         // null: stands nowhere
  int begin[kRows], end[kRows];  // of the keys that the band shows the row
  int self[kRows];               // the key that the row sees whatever the masks say, or -1
  int rank[kRows], segment[kRows];
  C segment_scores[2][kRows];

  // Row i of the tile: the stream's row, or slot, `index`. True for the last row of the tile that stands somewhere.
  __device__ bool load(int i, int index, const PermutationProblem<T>& problem, const PermutationStream<T>& stream, const RelativeHead<T>& head) {
    StreamSlot slot = {index < stream.length ? index : -1, index};
    bool last = index == stream.length - 1 || i == kRows - 1;
    if (stream.slots != nullptr) {
      const StreamSlot* const slots = stream.slots + static_cast<int64_t>(head.batch) * stream.length;
      slot = index < stream.length ? slots[index] : StreamSlot{-1, -1};
      last = last || (slot.row >= 0 && slots[index + 1].position < 0);
    }
    const bool stands = slot.row >= 0 && slot.position >= 0;
    row[i] = slot.row;
    position[i] = slot.position;
    query[i] = stands ? stream.query.row(head.batch, slot.row, head.column()) : nullptr;
    begin[i] = stands ? head.first_key(slot.position) : 0;
    end[i] = stands ? head.end_key(slot.position) : 0;
    self[i] = stands && stream.sees_itself ? problem.shared.band.memory + slot.position : -1;
    const int64_t place = static_cast<int64_t>(head.batch) * problem.length + slot.position;
    rank[i] = stands && problem.query_ranks != nullptr ? problem.query_ranks[place] : INT32_MAX;
    if (problem.segment_embedding != nullptr) {
      segment[i] = stands ? problem.segments[place] : 0;
      const int64_t at = 2 * (static_cast<int64_t>(head.pair()) * stream.length + slot.row);
#pragma unroll
      for (int w = 0; w < 2; ++w) segment_scores[w][i] = stands ? stream.segment_scores[at + w] : C{0};
    }
    return stands && last;
  }

  __device__ bool present(int i) const { return query[i] != nullptr; }

  // Whether the row sees the key, `key_rank` given.
  __device__ bool sees(int i, int key, int key_rank, const PermutationProblem<T>& problem, int batch) const {
    if (key == self[i]) return true;
    if (key < begin[i] || key >= end[i] || key_rank >= rank[i]) return false;
    const int current = key - problem.shared.band.memory;
    if (problem.mask == nullptr || current < 0) return true;
    const int64_t length = problem.length;
    return problem.mask[((problem.mask_by_batch ? batch : 0) * length + position[i]) * length + current] == 0;
  }
};

}  // namespace xlformers::cuda
