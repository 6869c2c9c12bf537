#include "cuda/relative_tensor_gradient_launch.cuh"

namespace xlformers::cuda {

template Status launch_tensor_gradient(const Context&, const TensorGradientProblem<__nv_bfloat16>&);

}  // namespace xlformers::cuda
