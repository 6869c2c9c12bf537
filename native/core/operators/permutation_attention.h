// XLNet's attention. The conventions: core/operators.h.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "core/operators/relative_attention.h"

namespace xlformers {

// One stream of queries of permutation_attention (Yang et al. 2019, section 2.3).
struct AttentionStream {
  const void* query;  // [batch, length, heads, head_dim], by strides; null with length 0
  int64_t length, row_stride, batch_stride;
  // [batch, length]: the current row at which each query stands, -1: nowhere (its out is 0); null: query n stands at row n.
  // Others than -1 ... current.length - 1: StatusCode::out_of_range.
  const int32_t* positions;
  int32_t sees_itself;  // the key where the query stands is visible whatever the masks say: XLNet's content stream
  uint64_t offset;      // of the stream's dropout
  void* out;            // [batch, length, heads, head_dim], contiguous
  void* log_sum_exp;    // [batch, heads, length]
};

// Fused XLNet attention: both streams over the same keys S = memory.length + current.length, memory first.
//   score[n,j] = scale ((q_n + content_bias) . k_j + (q_n + position_bias) . r_{M + p - j} + (q_n + segment_bias) . e_{segments differ})
// with p the position of query n and e_0 / e_1 for the same / another segment; memory counts as segment 0.
// Hidden from the query at p: current keys c with key_ranks[c] >= query_ranks[p], mask[p, c] != 0 or key_mask[c] != 0, keys outside the
// band of relative_attention (i = p). Hidden scores are -1e30, as in XLNet, so a query that sees nothing averages over all keys.
struct PermutationAttentionParams {
  DType dtype;
  int64_t batch, heads, head_dim;
  double scale;
  AttentionStream content;
  AttentionStream query;
  AttentionRows memory;
  AttentionRows current;
  const void* position;  // r: [position_rows, heads, head_dim], ascending distance; hidden pairs may lie outside
  int64_t position_rows, position_row_stride, first_distance;
  int64_t reversed_from;  // batch rows from here on read the row of the negated distance (XLNet's bi_data); batch: none
  const void* content_bias;       // r_w_bias: [heads, head_dim] or null
  const void* position_bias;      // r_r_bias
  const void* segment_bias;       // r_s_bias
  const void* segment_embedding;  // e: [2, heads, head_dim] or null
  const int32_t* segments;        // [batch, current.length]; with segment_embedding only
  const int32_t* query_ranks;     // [batch, current.length] or null, both or none; above INT32_MIN, below INT32_MAX
  const int32_t* key_ranks;
  const uint8_t* mask;  // [mask_batch, current.length, current.length] or null
  int64_t mask_batch;   // 1 or batch
  const uint8_t* key_mask;  // [batch, current.length] or null: not 0 hides the key from all (padding)
  // [batch] or null: memory rows before it are hidden from all. Others than 0 ... memory.length: StatusCode::out_of_range.
  const int32_t* memory_starts;
  const void* head_scale;
  int64_t band_upper, band_lower, band_segment;
  double dropout;
  uint64_t seed;
};

// Gradients of the block above; every output is overwritten and has the strides of its operand.
struct PermutationAttentionGradientParams {
  PermutationAttentionParams forward;  // the streams' out and log_sum_exp are inputs here
  const void* content_out_gradient;    // contiguous, as out; null with length 0
  const void* query_out_gradient;
  void* content_gradient;  // of the streams' queries; rows that stand nowhere get 0
  void* query_gradient;
  void* memory_key_gradient;
  void* memory_value_gradient;
  void* current_key_gradient;
  void* current_value_gradient;
  void* position_gradient;
  void* content_bias_gradient;  // null when the bias is
  void* position_bias_gradient;
  void* segment_bias_gradient;
  void* segment_embedding_gradient;
};

// As relative_attention_probabilities, for each stream: [batch, heads, length, S] or null.
struct PermutationAttentionProbabilitiesParams {
  PermutationAttentionParams forward;
  void* content_probabilities;
  void* query_probabilities;
};

}  // namespace xlformers
