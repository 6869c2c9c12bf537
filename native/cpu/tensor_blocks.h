// Many tensors of any size as one list of blocks, so that a single parallel loop serves them all.
#pragma once

#include "cpu/elementwise.h"

XL_KERNELS_BEGIN

struct TensorBlocks {
  const int64_t* first_block;  // [tensors + 1], ascending
  int32_t tensors;

  int64_t count() const { return first_block[tensors]; }

  // The tensor that a block belongs to: the last one whose first block is not after it.
  int32_t tensor_of(int64_t block) const {
    int32_t low = 0, high = tensors - 1;
    while (low < high) {
      const int32_t middle = low + (high - low + 1) / 2;
      if (first_block[middle] <= block) {
        low = middle;
      } else {
        high = middle - 1;
      }
    }
    return low;
  }
};

// Tensor: has a member `count`.
template <typename Tensor>
static inline TensorBlocks tensor_blocks(Context& context, const Tensor* tensors, int32_t tensor_count) {
  int64_t* first_block = context.workspace.allocate<int64_t>(tensor_count + 1);
  first_block[0] = 0;
  for (int32_t i = 0; i < tensor_count; ++i)
    first_block[i + 1] = first_block[i] + divide_up(tensors[i].count, kBlockElements);
  return {first_block, tensor_count};
}

// body(tensor, begin, end, block) for every block of every tensor.
template <typename Tensor, typename Body>
static inline void parallel_tensor_blocks(Context& context, const TensorBlocks& blocks, const Tensor* tensors,
                                          const Body& body) {
  if (blocks.count() == 0) return;
  context.pool.parallel_for(blocks.count(), [&](int64_t block, int) {
    const int32_t index = blocks.tensor_of(block);
    const int64_t begin = (block - blocks.first_block[index]) * kBlockElements;
    body(tensors[index], begin, at_most(begin + kBlockElements, tensors[index].count), block);
  });
}

XL_KERNELS_END
