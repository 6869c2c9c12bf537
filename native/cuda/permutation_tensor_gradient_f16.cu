#include "cuda/permutation_tensor_key_gradient.cuh"
#include "cuda/permutation_tensor_query_gradient.cuh"

namespace xlformers::cuda {

template Status launch_tensor_query_gradient(const Context&,
                                             const PermutationTensorProblem<__half>&,
                                             const TensorGradientStream<__half>&,
                                             const PositionPartials&);
template Status launch_tensor_key_gradient(const Context&,
                                           const PermutationTensorProblem<__half>&,
                                           const TensorGradientStream<__half>&,
                                           const TensorGradientStream<__half>&,
                                           const KeyGradientRows<__half>&);

}  // namespace xlformers::cuda
