#include "cuda/permutation_tensor_forward.cuh"

namespace xlformers::cuda {

template Status launch_permutation_tensor_forward(const Context&, const PermutationTensorProblem<__half>&);

}  // namespace xlformers::cuda
