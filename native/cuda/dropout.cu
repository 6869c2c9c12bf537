// Element-wise dropout.
#include "cuda/dropout_elements.cuh"

namespace xlformers::cuda {
namespace {

template <typename T>
struct Scale {
  Compute<T> factor;

  __device__ T operator()(T x) const { return narrow<T>(widen(x) * factor); }
};

struct Same {
  template <typename C>
  __device__ C operator()(C x) const {
    return x;
  }
};

}  // namespace

Status dropout(const Context& context, const void* block) {
  const auto& params = *static_cast<const DropoutParams*>(block);
  return with_float_type(params.dtype, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    const DropoutMask mask = dropout_mask(params.probability, params.seed, params.offset);
    const DropoutArgs<T> args =
        dropout_args(mask, params.count, params.period, static_cast<const T*>(params.x), static_cast<T*>(params.out));
    if (mask.threshold == 0) return transform(context, "dropout", params.count, Scale<T>{args.scale}, args.out, args.x);
    return drop_elements(context, "dropout", args, Same{});
  });
}

}  // namespace xlformers::cuda
