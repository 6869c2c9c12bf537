// The step of an optimizer. The conventions: core/operators.h.
#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace xlformers {

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

}  // namespace xlformers
