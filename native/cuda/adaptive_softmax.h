// The projected adaptive softmax by chunks of rows and blocks of columns: the logits of a large vocabulary never exist
// all at once.
#pragma once

#include "cuda/kernel.h"

namespace xlformers::cuda {

struct ChunkLimits {
  int64_t logit_bytes;  // memory for logits at a time
  int64_t most_rows;    // of a chunk
  int64_t fewest_rows;  // rather than fewer, columns are split: every chunk reads all weights
};

// The operators' whole scratch memory is the logits and a few [chunk rows, d_model] matrices. 64 MiB are about the L2
// cache of an H100, where a chunk's logits are still found when they are read again; 2048 rows fill it with blocks of a
// matrix product.
constexpr ChunkLimits kChunkLimits = {int64_t{64} << 20, 2048, 256};

// The operators of these names, with limits that tests make small.
Status adaptive_softmax_loss_in_chunks(const Context& context, const AdaptiveSoftmaxParams& params,
                                       const ChunkLimits& limits);
Status adaptive_softmax_loss_gradient_in_chunks(const Context& context, const AdaptiveSoftmaxParams& params,
                                                const ChunkLimits& limits);
Status adaptive_log_softmax_in_chunks(const Context& context, const AdaptiveSoftmaxParams& params,
                                      const ChunkLimits& limits);

}  // namespace xlformers::cuda
