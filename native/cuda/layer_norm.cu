#include "cuda/layer_norm.cuh"

namespace xlformers::cuda {

Status layer_norm(const Context& context, const void* block) {
  const auto& params = *static_cast<const LayerNormParams*>(block);
  return with_float_type(
      params.dtype, [&](auto tag) { return run_layer_norm<typename decltype(tag)::Type>(params, context.stream); });
}

}  // namespace xlformers::cuda
