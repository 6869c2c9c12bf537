// Many tensors of any size in few launches: their table travels as a kernel parameter, and a block finds its tensor in
// it.
#pragma once

#include "cuda/elementwise.cuh"

namespace xlformers::cuda {

constexpr int kTableBytes = 4000;      // of the 4 KB that parameters may take on every device
constexpr int64_t kTableBlock = 8192;  // elements of a tensor that a block serves

// Entry: has a member `count`.
template <typename Entry>
struct TensorTable {
  static constexpr int kCapacity = kTableBytes / static_cast<int>(sizeof(Entry) + sizeof(uint32_t));

  Entry entries[kCapacity];
  uint32_t first_block[kCapacity];
  int32_t size;

  // The tensor of this block: the last one whose first block is not after it.
  __device__ int find(uint32_t block) const {
    int low = 0, high = size - 1;
    while (low < high) {
      const int middle = low + (high - low + 1) / 2;
      if (first_block[middle] <= block) {
        low = middle;
      } else {
        high = middle - 1;
      }
    }
    return low;
  }
};

// run(table, blocks, blocks_before) for as many tables as it takes; empty tensors are left out.
template <typename Entry, typename Tensor, typename Make, typename Run>
Status for_each_table(const Tensor* tensors, int32_t tensor_count, const Make& make, const Run& run) {
  TensorTable<Entry> table = {};
  int64_t blocks = 0, before = 0;
  const auto flush = [&] {
    const Status status = table.size > 0 ? run(table, static_cast<unsigned>(blocks), before) : ok_status();
    before += blocks;
    blocks = 0;
    table.size = 0;
    return status;
  };
  for (int32_t i = 0; i < tensor_count; ++i) {
    if (tensors[i].count <= 0) continue;
    const int64_t own = divide_up(tensors[i].count, kTableBlock);
    if (table.size == TensorTable<Entry>::kCapacity || blocks + own > INT32_MAX) {
      const Status status = flush();
      if (!status.ok()) return status;
    }
    table.entries[table.size] = make(tensors[i]);
    table.first_block[table.size] = static_cast<uint32_t>(blocks);
    ++table.size;
    blocks += own;
  }
  return flush();
}

}  // namespace xlformers::cuda
