#include "cuda/permutation_tensor_key_gradient.cuh"
#include "cuda/permutation_tensor_query_gradient.cuh"

namespace xlformers::cuda {

template Status launch_tensor_query_gradient(const Context&,
                                             const PermutationTensorProblem<__nv_bfloat16>&,
                                             const TensorGradientStream<__nv_bfloat16>&,
                                             const PositionPartials&);
template Status launch_tensor_key_gradient(const Context&,
                                           const PermutationTensorProblem<__nv_bfloat16>&,
                                           const TensorGradientStream<__nv_bfloat16>&,
                                           const TensorGradientStream<__nv_bfloat16>&,
                                           const KeyGradientRows<__nv_bfloat16>&);

}  // namespace xlformers::cuda
