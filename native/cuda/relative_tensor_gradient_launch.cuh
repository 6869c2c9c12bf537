// For the files that compile instances of the tensor-core kernels.
#pragma once

#include "cuda/relative_gradient.h"
#include "cuda/relative_tensor_column_gradient.cuh"
#include "cuda/relative_tensor_query_gradient.cuh"

namespace xlformers::cuda {

template <typename T>
Status launch_gradient_kernel(const Context& context, int64_t blocks, int threads, size_t shared_bytes,
                              void (*kernel)(TensorGradientProblem<T>), const TensorGradientProblem<T>& problem) {
  if (blocks == 0) return ok_status();
  return launch({"relative_attention_gradient", dim3(static_cast<unsigned>(blocks)), dim3(static_cast<unsigned>(threads)), shared_bytes,
                 context.stream},
                kernel, problem);
}

template <typename T>
Status launch_tensor_gradient(const Context& context, const TensorGradientProblem<T>& problem) {
  return with_gradient_tile(problem.tensor.head_dim, [&](auto tag) {
    constexpr int D = decltype(tag)::value;
    const RelativeProblem<T>& rows = problem.tensor.rows;
    const int64_t pairs = static_cast<int64_t>(rows.batch) * rows.heads;
    const auto tiles = [](int64_t length, int side) { return (length + side - 1) / side; };
    using Queries = QueryGradientTile<D>;
    using Keys = ColumnGradientTile<D, false>;
    using Positions = ColumnGradientTile<D, true>;
    const int chunks = problem.gradient.chunks;
    Status status = ok_status();
    if (chunks == 0) {
      status = launch_gradient_kernel(context, pairs * tiles(rows.query_length, Queries::kQueries), Queries::kThreads,
                                      QueryGradientShared<T, D, false>::kBytes, relative_tensor_query_gradient<T, D>, problem);
    } else if constexpr (D <= kMostJoinedHeadDim) {
      status = launch_gradient_kernel(context, pairs * chunks, Queries::kThreads, QueryGradientShared<T, D, true>::kBytes,
                                      relative_tensor_query_position_gradient<T, D>, problem);
    }
    if (status.ok()) {
      status = launch_gradient_kernel(context, pairs * tiles(rows.band.keys, Keys::kColumns), Keys::kThreads,
                                      ColumnGradientShared<T, D, false>::kBytes, relative_tensor_column_gradient<T, D, false>, problem);
    }
    if (status.ok() && chunks == 0) {
      const int64_t blocks = int64_t{problem.gradient.splits} * rows.heads * tiles(rows.position_rows, Positions::kColumns);
      status = launch_gradient_kernel(context, blocks, Positions::kThreads, ColumnGradientShared<T, D, true>::kBytes,
                                      relative_tensor_column_gradient<T, D, true>, problem);
    }
    return status;
  });
}

}  // namespace xlformers::cuda
