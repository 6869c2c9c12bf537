// For the files that compile instances of the tensor-core kernel.
#pragma once

#include "cuda/relative_forward.h"
#include "cuda/relative_tensor_forward.cuh"

namespace xlformers::cuda {

template <typename T>
Status launch_tensor_forward(const Context& context, const TensorProblem<T>& problem) {
  return with_tensor_tile(problem.head_dim, [&](auto tag) {
    constexpr int D = decltype(tag)::value;
    using Tile = TensorTile<D>;
    const RelativeProblem<T>& rows = problem.rows;
    const int64_t tiles = (rows.query_length + Tile::kQueries - 1) / Tile::kQueries;
    const LaunchShape shape = {"relative_attention", dim3(static_cast<unsigned>(tiles * rows.batch * rows.heads)), dim3(Tile::kThreads),
                               ForwardShared<T, D>::kBytes, context.stream};
    return rows.dropout.active() ? launch(shape, relative_tensor_forward<T, D, true>, problem)
                                 : launch(shape, relative_tensor_forward<T, D, false>, problem);
  });
}

}  // namespace xlformers::cuda
