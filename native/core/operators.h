// The operators: their numbers and their parameter blocks. This file is the contract between the addon and every backend.
//
// - All blocks are plain C layout. Pointers are device pointers. Strides and sizes count elements, not bytes.
// - Matrices are row-major; `x_stride` is the distance of two rows. A row is contiguous.
// - An operator may write only what its block calls an output; outputs never alias inputs unless the comment says so.
// - Optional pointers are null when absent. "Accumulate" adds to what the output holds instead of overwriting it.
// - `dtype` is the type of every floating operand; ids and labels are int32. Statistics (mean, rstd, log_sum_exp, losses and their
//   gradients, norms) have the operand's type, f32 for bf16 and f16.
// - A block that ends in an array is enqueued with as many entries as its count says.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/dtype.h"

namespace xlformers {

// Append only: the number is part of the plugin contract.
enum class Operator : int32_t {
  fill = 0,
  permute = 1,
  copy_strided = 2,
  random_fill = 3,
  add = 4,
  dropout = 5,
  activation = 6,
  activation_gradient = 7,
  matrix_product = 8,
  pack_matrix = 9,
  column_sum = 10,
  layer_norm = 11,
  layer_norm_gradient = 12,
  embedding = 13,
  embedding_gradient = 14,
  sinusoid_positions = 15,
  relative_attention = 16,
  relative_attention_gradient = 17,
  relative_attention_probabilities = 18,
  memory_update = 19,
  adaptive_softmax_loss = 20,
  adaptive_softmax_loss_gradient = 21,
  adaptive_log_softmax = 22,
  softmax_cross_entropy = 23,
  softmax_cross_entropy_gradient = 24,
  mean_nonzero = 25,
  mean_nonzero_gradient = 26,
  squared_error = 27,
  squared_error_gradient = 28,
  binary_cross_entropy = 29,
  binary_cross_entropy_gradient = 30,
  global_norm = 31,
  adam = 32,
  sample = 33,
  permutation_attention = 34,
  permutation_attention_gradient = 35,
  permutation_attention_probabilities = 36,
  binary_mask = 37,
  masked_fill = 38,
  top_probabilities = 39,
  cast = 40,
  ring_append = 41,
  count = 42,
};

enum class Activation : int32_t { none = 0, relu = 1, gelu = 2 /* erf */, gelu_tanh = 3, silu = 4, tanh = 5 };

constexpr int32_t kIgnoredLabel = -100;  // labels with this value have loss 0 and no gradient, as in Hugging Face

// out[i] = value; i32 and u8 take the value truncated.
struct FillParams {
  DType dtype;
  int64_t count;
  double value;
  void* out;
};

// out[i0, i1, i2, i3] of shape size[order[0..3]] = in[...]: axis k of the output is axis order[k] of the input.
// Lower ranks are padded with leading axes of size 1.
struct PermuteParams {
  DType dtype;
  int64_t size[4];  // of the input
  int32_t order[4];
  const void* in;
  void* out;
};

// out[o * out_outer_stride + r * out_row_stride + c] = in[o * in_outer_stride + r * in_row_stride + c]
struct CopyStridedParams {
  DType dtype;
  int64_t outer, rows, columns;
  const void* in;
  int64_t in_outer_stride, in_row_stride;
  void* out;
  int64_t out_outer_stride, out_row_stride;
};

enum class RandomKind : int32_t { uniform = 0 /* [a, b) */, normal = 1 /* mean a, standard deviation b */ };

// Element i: block(i >> 2 low, i >> 34, 1), word i & 3. uniform: a + (b - a) * ((word >> 8) * 2^-24). normal: Box-Muller of the
// word pair (2k, 2k + 1): u1 = (word[2k] + 1) * 2^-32, u2 = word[2k + 1] * 2^-32; even element r cos(2 pi u2), odd r sin; in double.
struct RandomFillParams {
  DType dtype;
  RandomKind kind;
  int64_t count;
  double a, b;
  uint64_t seed, offset;
  void* out;
};

// out = alpha * x + beta * y; y may be null (beta ignored). out may alias x or y.
struct AddParams {
  DType dtype;
  int64_t count;
  double alpha, beta;
  const void* x;
  const void* y;
  void* out;
};

// out = keep(i) ? x / (1 - probability) : 0, element-wise counters of philox.h. Its gradient is itself. out may alias x.
// `period` > 0: element i uses the mask of element i % period (a mask shared by the rows of a batch); 0: none shared.
struct DropoutParams {
  DType dtype;
  int64_t count, period;
  double probability;
  uint64_t seed, offset;
  const void* x;
  void* out;
};

// out = activation(x). out may alias x.
struct ActivationParams {
  DType dtype;
  Activation activation;
  int64_t count;
  const void* x;
  void* out;
};

// x_gradient = dropout(out_gradient) * activation'(x), the gradient of dropout(activation(..)) with the mask of those numbers. For relu
// and tanh `x` is the OUTPUT of the activation, whose sign or value is enough. For relu it is that of the dropout: what was dropped is 0
// there, so that no mask is made. `x` is not read for none. x_gradient may alias out_gradient.
struct ActivationGradientParams {
  DType dtype;
  Activation activation;
  int64_t count;
  double dropout;
  uint64_t seed, offset;
  const void* x;
  const void* out_gradient;
  void* x_gradient;
};

// c[rows, columns] (+)= dropout(activation(op(a) op(b) + bias)) + residual
// a: [rows, inner], or [inner, rows] when transpose_a. b: [inner, columns], or [columns, inner] when transpose_b.
// A linear layer y = x W^T has transpose_b = 1 with b = W [columns, inner]; dx = dy W has neither; dW = dy^T x has transpose_a = 1.
// pre_activation (optional, [rows, columns], stride c_stride): receives op(a) op(b) + bias, which gelu's gradient needs.
// The dropout's element of a row and column is row * columns + column, whatever the stride.
// packed_b != 0: b is what pack_matrix made of this operand (then transpose_b and b_stride are ignored).
struct MatrixProductParams {
  DType dtype;
  int64_t rows, columns, inner;
  int32_t transpose_a, transpose_b, packed_b, accumulate;
  Activation activation;
  double dropout;
  uint64_t seed, offset;
  const void* a;
  int64_t a_stride;
  const void* b;
  int64_t b_stride;
  const void* bias;  // [columns] or null
  const void* residual;
  int64_t residual_stride;
  void* pre_activation;
  void* c;
  int64_t c_stride;
};

// Rearranges the second operand of matrix_product once, for weights that do not change. The packed form is private to the backend;
// Backend::packed_matrix_elements gives its size.
struct PackMatrixParams {
  DType dtype;
  int64_t columns, inner;
  int32_t transpose_b;
  const void* b;
  int64_t b_stride;
  void* packed;
};

// out[columns] (+)= sum over rows of x[rows, columns], in a fixed order (a bias's gradient).
struct ColumnSumParams {
  DType dtype;
  int64_t rows, columns;
  int32_t accumulate;
  const void* x;
  int64_t x_stride;
  void* out;
};

// s = dropout(x) + residual;  y = (s - mean) * rstd * weight + bias, over the last axis; rows and columns contiguous.
// `sum` receives s (the gradient needs it); null when nobody will ask for a gradient. residual null: s = dropout(x).
struct LayerNormParams {
  DType dtype;
  int64_t rows, columns;
  double epsilon, dropout;
  uint64_t seed, offset;
  const void* x;
  const void* residual;
  const void* weight;
  const void* bias;
  void* sum;   // [rows, columns] or null
  void* mean;  // [rows] or null
  void* rstd;  // [rows] or null
  void* y;
};

// residual_gradient = ds (null when there was no residual); x_gradient = dropout mask applied to ds (may be null when only ds is wanted).
// weight_gradient and bias_gradient [columns] are overwritten; sums over rows run in a fixed order.
struct LayerNormGradientParams {
  DType dtype;
  int64_t rows, columns;
  double dropout;
  uint64_t seed, offset;
  const void* sum;
  const void* mean;
  const void* rstd;
  const void* weight;
  const void* y_gradient;
  void* x_gradient;
  void* residual_gradient;
  void* weight_gradient;
  void* bias_gradient;
};

// out[n, :] = scale * table[ids[n] - first_id, :] where first_id <= ids[n] < first_id + table_rows; rows of other ids are left zero
// when `partial` != 0 (one cluster of an adaptive embedding; `accumulate` sums the clusters) and are StatusCode::out_of_range otherwise.
struct EmbeddingParams {
  DType dtype;
  int64_t count, table_rows, columns;
  int64_t first_id;
  int32_t partial, accumulate;
  double scale;
  const int32_t* ids;
  const void* table;
  void* out;  // [count, columns]
};

// table_gradient[id - first_id, :] (+)= scale * sum of out_gradient[n, :] over n with ids[n] == id, in the order of n.
struct EmbeddingGradientParams {
  DType dtype;
  int64_t count, table_rows, columns;
  int64_t first_id;
  int32_t partial, accumulate;
  double scale;
  const int32_t* ids;
  const void* out_gradient;
  void* table_gradient;  // [table_rows, columns]
};

// out[p, :] = [sin(t f) | cos(t f)], t = first_distance + p clipped to [-clamp, clamp] when clamp > 0,
// f_k = 10000^(-2k / columns), k < columns / 2; computed in double, stored as dtype. columns is even.
struct SinusoidPositionsParams {
  DType dtype;
  int64_t count, columns;
  int64_t first_distance, clamp;
  void* out;
};

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

// One cluster of the projected adaptive softmax (Grave et al. 2017). Cluster 0 is the head (shortlist).
struct SoftmaxCluster {
  int64_t first_id, size;  // ids [first_id, first_id + size)
  int64_t width;           // columns of weight; the projection is [d_model, width], null: width == d_model
  const void* weight;      // [size, width]
  const void* bias;        // [size] or null
  const void* projection;
  void* weight_gradient;  // gradient operator only; overwritten; null: not wanted
  void* bias_gradient;
  void* projection_gradient;
};

// head logits = h P_0 W_0^T + b_0 (size_0 columns), followed by (cluster_count - 1) cluster logits h P_0 W_c^T + b_c.
// log p(id) = head log-softmax for the shortlist; else head log-softmax[column of cluster c] + log-softmax of the tail's logits.
// The column of tail c = 1.. is size_0 + c - 1, or size_0 + (cluster_count - 1) - c when reversed_clusters != 0 (original PyTorch code).
struct AdaptiveSoftmaxParams {
  DType dtype;
  int64_t rows, d_model;
  int32_t reversed_clusters;
  const void* hidden;     // [rows, d_model]
  const int32_t* labels;  // [rows]; kIgnoredLabel: loss 0. Ids out of range: StatusCode::out_of_range. Unused by adaptive_log_softmax
  const void* cluster_weight;  // [cluster_count - 1, width of cluster 0] or null
  const void* cluster_bias;
  void* loss;                 // adaptive_softmax_loss: [rows] negative log-likelihoods (output)
  void* log_probabilities;    // adaptive_log_softmax: [rows, vocabulary] (output)
  const void* loss_gradient;  // adaptive_softmax_loss_gradient: [rows]
  void* hidden_gradient;      // [rows, d_model], overwritten
  void* cluster_weight_gradient;
  void* cluster_bias_gradient;
  int32_t cluster_count;
  SoftmaxCluster clusters[1];  // cluster_count entries
};

// loss[n] = logSumExp(logits[n]) - logits[n, labels[n]], 0 for kIgnoredLabel.
struct SoftmaxCrossEntropyParams {
  DType dtype;
  int64_t rows, columns;
  const void* logits;
  const int32_t* labels;
  void* log_sum_exp;  // [rows]: written by the forward operator, read by the gradient
  void* loss;         // [rows]
  const void* loss_gradient;
  void* logits_gradient;
};

// out[0] = sum(x) / number of entries != 0, or with labels != kIgnoredLabel where labels are given (0 when there is none); out[1] = that
// number. The sum runs in double, in a fixed order.
struct MeanNonzeroParams {
  DType dtype;
  int64_t count;
  const void* x;
  const int32_t* labels;  // [count] or null
  void* out;              // [2]
};

// x_gradient[i] = x[i] counts ? out_gradient[0] / out[1] : 0
struct MeanNonzeroGradientParams {
  DType dtype;
  int64_t count;
  const void* x;
  const int32_t* labels;
  const void* out;
  const void* out_gradient;
  void* x_gradient;
};

// squared_error: loss[i] = (x - target)^2; binary_cross_entropy: loss[i] = max(x, 0) - x target + log(1 + exp(-|x|)).
// The gradients multiply by loss_gradient[i].
struct ElementLossParams {
  DType dtype;
  int64_t count;
  const void* x;
  const void* target;
  void* loss;
  const void* loss_gradient;
  void* x_gradient;
};

// out[i] = x[i] > 0, or x[i] < 1 when `inverted`: input masks (1 hides) and attention masks (1 shows). dtype: any but bf16 and f16.
struct BinaryMaskParams {
  DType dtype;
  int64_t count;
  int32_t inverted;
  const void* x;
  uint8_t* out;
};

// out[i] = mask[i] != 0 ? value : x[i]
struct MaskedFillParams {
  DType dtype;
  int64_t count;
  double value;
  const void* x;
  const uint8_t* mask;
  void* out;
};

// probabilities = softmax of each row; top and indices: its k largest, descending, of equals the lower column first. 1 <= k <= columns.
struct TopProbabilitiesParams {
  DType dtype;
  int64_t rows, columns, k;
  const void* scores;    // [rows, columns]
  void* probabilities;   // [rows, columns]
  void* top;             // [rows, k]
  int32_t* indices;      // [rows, k]
};

// out[i] = x[i], or out[i] + x[i] when `accumulate`, between any floating types. A conversion rounds once, to nearest even; what a type
// cannot hold becomes infinite, NaN stays NaN. A sum is computed in f32 (f64 where an operand has it) before it is rounded.
struct CastParams {
  DType dtype;  // of x
  DType out_dtype;
  int64_t count;
  int32_t accumulate;
  const void* x;
  void* out;
};

struct NormTensor {
  const void* values;
  int64_t count;
};

// out[0] = Euclidean norm over all tensors / scale, summed in double in a fixed order; out[1] = min(1, max_norm / (norm + 1e-6)) / scale,
// the first factor as torch.nn.utils.clip_grad_norm_ (1 when max_norm <= 0); out[2] = 1 when the norm is finite, else 0.
struct GlobalNormParams {
  DType dtype;
  double max_norm;
  double scale;  // > 0: the values are so many times what is meant (a loss scale)
  void* out;     // [3], f32 or f64 as dtype
  int32_t tensor_count;
  NormTensor tensors[1];
};

struct AdamTensor {
  void* parameter;
  const void* gradient;
  void* first_moment;
  void* second_moment;
  void* copy;  // the parameter as it is afterwards, rounded once to copy_dtype; or null
  int64_t count;
  double weight_decay;
};

// torch.optim.Adam (decoupled = 0: weight decay added to the gradient) and AdamW (decoupled = 1). `step` counts from 1.
// clip (optional): global_norm's output; gradients are multiplied by clip[1], and nothing is written when clip[2] is 0.
struct AdamParams {
  DType dtype;       // copies: f32 or f64
  DType copy_dtype;  // bf16 or f16; of no meaning without copies
  double learning_rate, beta1, beta2, epsilon;
  int64_t step;
  int32_t decoupled;
  int32_t tensor_count;
  const void* clip;
  AdamTensor tensors[1];
};

// ids[row] drawn from scores[row] (logits or log-probabilities). temperature 0: argmax (lowest id of equals). Else scores / temperature,
// then top_k (0: off), then top_p (1: off; the smallest set whose probability reaches top_p, at least one), then inverse transform with
// u = block(row, 0, 2).word[0] * 2^-32: the first kept id, ascending, whose cumulative probability exceeds u. Scores rank by value, of
// equals the lower id first. log_probability (optional): of the drawn id under the untruncated distribution at temperature 1.
//
// With `streams` the random numbers come from the device, so that a recording draws others each time: row r draws as a call of its own
// would, u = block(0, 0, 2).word[0] of the stream {seed, offset} = streams[r], whose offset then counts on by one. At temperature 0 they stay.
struct SampleParams {
  DType dtype;
  int64_t rows, columns;
  double temperature;
  int64_t top_k;
  double top_p;
  uint64_t seed, offset;
  uint32_t* streams;  // [rows, 4] or null, input and output: seed and offset, the lower word of each first
  const void* scores;
  int32_t* ids;
  void* log_probability;
};

}  // namespace xlformers
