// The kernels of relative_attention by number type; their instances are compiled in files of their own.
#pragma once

#include "cuda/relative_tensor.cuh"

namespace xlformers::cuda {

template <typename T>
Status launch_tensor_forward(const Context& context, const TensorProblem<T>& problem);

}  // namespace xlformers::cuda
