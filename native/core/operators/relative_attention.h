// Transformer-XL's attention and its memory. The conventions: core/operators.h.
#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace xlformers {

// Rows of keys and values: row j of batch b starts at b * batch_stride + j * row_stride; head h at + h * head_dim.
//
// With `ring_head` they are a ring, whose head moves as rows are appended (ring_append): row j lies where row (ring_head[0] + j) mod length
// would. For memory of the operators that compute attention or its probabilities; gradients are StatusCode::unsupported. A head outside
// [0, length) is StatusCode::out_of_range.
struct AttentionRows {
  const void* key;
  const void* value;
  int64_t length;  // 0: absent
  int64_t row_stride, batch_stride;
  const int32_t* ring_head;  // [1] or null
};

// Fused Transformer-XL attention (Dai et al. 2019, section 3.3). Keys: S = memory.length + current.length, memory first.
//   score[b,h,i,j] = scale * ((q_i + content_bias) . k_j + (q_i + position_bias) . r_{distance}),  distance = memory.length + i - j
//   visible: j <= memory.length + i + band_upper  and  j >= floor(i / band_segment) * band_segment + band_lower
//   out[b,i,h] = head_scale[h] * sum_j dropout(softmax_j(score)) v_j
// The row of r for a distance is distance - first_distance; rows outside [0, position_rows) are a contract violation for visible pairs
// (TypeScript and the addon check the extremes). Without a causal limit band_upper is >= current.length; without a lower one
// band_lower is <= -current.length. Every row must see at least one key (checked above the backend).
struct RelativeAttentionParams {
  DType dtype;
  int64_t batch, heads, head_dim, query_length;
  double scale;
  const void* query;  // [batch, query_length, heads, head_dim], by strides
  int64_t query_row_stride, query_batch_stride;
  AttentionRows memory;
  AttentionRows current;
  const void* position;  // r: [position_rows, heads, head_dim], ascending distance
  int64_t position_rows, position_row_stride, first_distance;
  const void* content_bias;   // r_w_bias, u: [heads, head_dim] or null
  const void* position_bias;  // r_r_bias, v: [heads, head_dim] or null
  const void* head_scale;     // [heads] or null
  int64_t band_upper, band_lower, band_segment;
  // [batch]: memory rows before it are hidden from that batch row (its memory is shorter than others'); null: none. Others than
  // 0 ... memory.length + min(0, band_upper): StatusCode::out_of_range.
  const int32_t* memory_starts;
  double dropout;
  uint64_t seed, offset;
  void* out;          // [batch, query_length, heads, head_dim], contiguous
  void* log_sum_exp;  // [batch, heads, query_length]
};

// Gradients of the block above; every output is overwritten and has the strides of its operand.
struct RelativeAttentionGradientParams {
  RelativeAttentionParams forward;  // out and log_sum_exp are inputs here
  const void* out_gradient;         // contiguous, as out
  void* query_gradient;
  void* memory_key_gradient;  // null when there is no memory
  void* memory_value_gradient;
  void* current_key_gradient;
  void* current_value_gradient;
  void* position_gradient;       // [position_rows, heads, head_dim], row stride position_row_stride; rows never used get 0
  void* content_bias_gradient;   // null when the bias is
  void* position_bias_gradient;  // null when the bias is
};

// probabilities[b, h, i, j] = head_scale[h] * dropout(softmax_j(score)), 0 where masked: [batch, heads, query_length, S].
// Reads log_sum_exp of the forward pass; ignores `out`, `value` and `forward.memory.value`.
struct RelativeAttentionProbabilitiesParams {
  RelativeAttentionParams forward;
  void* probabilities;
};

// out[b] = rows [old_length + current_length - out_length, ...) of [old[b]; current[b]]; current limited to its first current_length rows.
struct MemoryUpdateParams {
  DType dtype;
  int64_t batch, columns;
  const void* old_rows;  // [batch, old_length, columns] by strides, or null with old_length 0
  int64_t old_length, old_row_stride, old_batch_stride;
  const void* current_rows;
  int64_t current_length, current_row_stride, current_batch_stride;
  void* out;  // [batch, out_length, columns], contiguous
  int64_t out_length;
};

struct RingRows {
  const void* rows;  // [batch, count, columns] by strides
  int64_t row_stride, batch_stride, columns;
  void* ring;  // [batch, length, columns], contiguous
};

// Row (head[0] + i) mod length of ring[b] = rows[b, i], i < count <= length: the newest rows in the place of the oldest, which begin at the
// head; for all rings that share it. Then head[0] = (head[0] + count) mod length when `advance` is not 0.
// A head outside [0, length): StatusCode::out_of_range, and the head stays.
struct RingAppendParams {
  DType dtype;
  int64_t batch, count, length;
  int32_t* head;  // [1]: input and output
  int32_t advance;
  int32_t ring_count;
  RingRows rings[1];
};

}  // namespace xlformers
