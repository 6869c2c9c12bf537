#include "cuda/relative_tensor_forward_launch.cuh"

namespace xlformers::cuda {

template Status launch_tensor_forward(const Context&, const TensorProblem<__half>&);

}  // namespace xlformers::cuda
