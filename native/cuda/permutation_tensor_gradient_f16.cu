#include "cuda/permutation_tensor_query_gradient.cuh"

namespace xlformers::cuda {

template Status launch_tensor_query_gradient(const Context&,
                                             const PermutationTensorProblem<__half>&,
                                             const TensorGradientStream<__half>&);

}  // namespace xlformers::cuda
