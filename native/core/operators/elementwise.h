// What works on elements and copies them. The conventions: core/operators.h.
#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace xlformers {

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

enum class Activation : int32_t { none = 0, relu = 1, gelu = 2 /* erf */, gelu_tanh = 3, silu = 4, tanh = 5 };

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

}  // namespace xlformers
