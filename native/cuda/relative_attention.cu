#include "cuda/attention_ring.h"
#include "cuda/relative_decode.cuh"
#include "cuda/relative_forward.h"
#include "cuda/relative_pack.cuh"
#include "cuda/relative_scalar_forward.cuh"

namespace xlformers::cuda {
namespace {

// Few queries read a ring where it lies; for many, rows in order are worth a copy.
template <typename T>
Status attend(const Context& context, RelativeAttentionParams params) {
  const int32_t* const ring_head = params.memory.ring_head;
  const bool decodes = params.query_length <= kDecodeQueries;
  Status status = decodes ? ok_status()
                          : unroll_ring(context, Operator::relative_attention, params.dtype, params.batch, params.heads * params.head_dim,
                                        &params.memory);
  RelativeProblem<T> problem;
  if (status.ok()) status = make_problem(context, Operator::relative_attention, params, &problem);
  if (!status.ok() || problem.batch == 0 || problem.heads == 0 || problem.query_length == 0) return status;
  if (decodes) return launch_decode(context, problem, ring_head, keys_are_aligned(problem));
  if constexpr (sizeof(T) == 2) {
    TensorProblem<T> tensor;
    status = make_tensor_problem(context, "relative_attention", problem, &tensor);
    return status.ok() ? launch_tensor_forward(context, tensor) : status;
  } else {
    return launch_scalar_forward(context, problem);
  }
}

}  // namespace

Status relative_attention(const Context& context, const void* block) {
  const auto& params = *static_cast<const RelativeAttentionParams*>(block);
  return with_float_type(params.dtype, [&](auto tag) { return attend<typename decltype(tag)::Type>(context, params); });
}

}  // namespace xlformers::cuda
