// The tensor-core kernels of permutation_attention by number type; their instances are compiled in files of their own.
#pragma once

#include "cuda/permutation_problem.cuh"
#include "cuda/relative_tensor.cuh"

namespace xlformers::cuda {

// Larger heads have the kernels without tensor cores.
constexpr int kTensorHeadSize = 128;

// Rows are 16-byte aligned and the head size of `problem` is a multiple of 8, as in TensorProblem; outputs have head_dim.
template <typename T>
struct PermutationTensorProblem {
  PermutationProblem<T> problem;
  int head_dim;
  const float* position_terms;  // v . r: [heads, position_rows], or null
  const float* key_terms;       // u . k: [batch, heads, keys], or null
};

template <typename T>
Status launch_permutation_tensor_forward(const Context& context, const PermutationTensorProblem<T>& tensor);

}  // namespace xlformers::cuda
