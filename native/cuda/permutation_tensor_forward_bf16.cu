#include "cuda/permutation_tensor_forward.cuh"

namespace xlformers::cuda {

template Status launch_permutation_tensor_forward(const Context&, const PermutationTensorProblem<__nv_bfloat16>&);

}  // namespace xlformers::cuda
