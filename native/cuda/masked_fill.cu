#include "cuda/elementwise.cuh"

namespace xlformers::cuda {
namespace {

template <typename T>
struct MaskedFill {
  T value;

  __device__ T operator()(T x, uint8_t mask) const { return mask != 0 ? value : x; }
};

}  // namespace

Status masked_fill(const Context& context, const void* block) {
  const auto& params = *static_cast<const MaskedFillParams*>(block);
  return with_float_type(params.dtype, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    return transform(context, "masked_fill", params.count, MaskedFill<T>{narrow_double<T>(params.value)},
                     static_cast<T*>(params.out), static_cast<const T*>(params.x), params.mask);
  });
}

}  // namespace xlformers::cuda
