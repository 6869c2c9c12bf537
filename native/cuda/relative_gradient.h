// The kernels of relative_attention_gradient by number type; their instances are compiled in files of their own.
#pragma once

#include "cuda/relative_tensor_gradient.cuh"

namespace xlformers::cuda {

// dQ; dK, dV and the sums over queries of dS; the partial sums of dR and of dS along diagonals.
template <typename T>
Status launch_tensor_gradient(const Context& context, const TensorGradientProblem<T>& problem);

// relative_attention_gradient with the number of chunks (relative_gradient_plan.h) that a test wants; 0 for f32 and f64.
Status relative_attention_gradient_in_chunks(const Context& context, const RelativeAttentionGradientParams& params, int chunks);

}  // namespace xlformers::cuda
