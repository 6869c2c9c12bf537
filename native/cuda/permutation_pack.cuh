// Operands of permutation attention for the tensor cores.
#pragma once

#include "cuda/permutation_forward.h"
#include "cuda/relative_pack.cuh"

namespace xlformers::cuda {

template <typename T>
Status make_permutation_tensor_problem(const Context& context, const char* name, const PermutationProblem<T>& problem,
                                       PermutationTensorProblem<T>* tensor) {
  const RelativeProblem<T>& given = problem.shared;
  *tensor = {problem, given.head_dim, nullptr, nullptr};
  RelativeProblem<T>& rows = tensor->problem.shared;
  Status status = ok_status();
  if (!keys_are_aligned(given) || !is_aligned(problem.content.query) || !is_aligned(problem.query.query)) {
    for (PermutationStream<T>* stream : {&tensor->problem.content, &tensor->problem.query}) {
      const StridedRows<const T> queries = stream->query;
      if (status.ok() && stream->length > 0) status = pack_rows(context, name, queries, given.batch, stream->length, given, &stream->query);
    }
    if (status.ok()) status = pack_keys(context, name, given, &rows);
  }
  rows.query = rows.key.current;  // an address that is aligned
  if (status.ok()) status = make_position_terms(context, name, rows, given.head_dim, &tensor->position_terms);
  const int64_t keys = static_cast<int64_t>(rows.batch) * rows.heads * rows.band.keys;
  if (status.ok()) status = make_terms(context, name, KeyItems<T>{rows}, keys, given.content_bias, given.head_dim, &tensor->key_terms);
  return status;
}

}  // namespace xlformers::cuda
