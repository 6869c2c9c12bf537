// Matrix products, normalisation and embeddings. The conventions: core/operators.h.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "core/operators/elementwise.h"

namespace xlformers {

// c[rows, columns] (+)= dropout(activation(op(a) op(b) + bias)) + residual
// a: [rows, inner], or [inner, rows] when transpose_a. b: [inner, columns], or [columns, inner] when transpose_b.
// A linear layer y = x W^T has transpose_b = 1 with b = W [columns, inner]; dx = dy W has neither; dW = dy^T x has transpose_a = 1.
// pre_activation (optional, [rows, columns], stride c_stride): receives op(a) op(b) + bias, which gelu's gradient needs.
// The dropout's element of a row and column is row * columns + column, whatever the stride.
// packed_b != 0: b is what pack_matrix made of this operand (then transpose_b and b_stride are ignored).
// c_dtype: that of the operands; or f32 for operands of 16 bits, whose plain products (no bias, activation, dropout, residual or
// pre_activation) are then stored, and added to c, without rounding: a weight's gradient in mixed precision.
struct MatrixProductParams {
  DType dtype, c_dtype;
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

}  // namespace xlformers
