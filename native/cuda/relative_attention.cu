#include "cuda/relative_scalar_forward.cuh"

namespace xlformers::cuda {

Status relative_attention(const Context& context, const void* block) {
  const auto& params = *static_cast<const RelativeAttentionParams*>(block);
  return with_float_type(params.dtype, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    RelativeProblem<T> problem;
    const Status status = make_problem(context, Operator::relative_attention, params, &problem);
    return status.ok() ? launch_scalar_forward(context, problem) : status;
  });
}

}  // namespace xlformers::cuda
