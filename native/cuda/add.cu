#include "cuda/elementwise.cuh"

namespace xlformers::cuda {
namespace {

// out = alpha * x + beta * y
template <typename T>
struct Add {
  Compute<T> alpha, beta;

  __device__ T operator()(T x, T y) const { return narrow<T>(alpha * widen(x) + beta * widen(y)); }
  __device__ T operator()(T x) const { return narrow<T>(alpha * widen(x)); }
};

}  // namespace

Status add(const Context& context, const void* block) {
  const auto& params = *static_cast<const AddParams*>(block);
  return with_float_type(params.dtype, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    const Add<T> body = {static_cast<Compute<T>>(params.alpha), static_cast<Compute<T>>(params.beta)};
    T* const out = static_cast<T*>(params.out);
    const T* const x = static_cast<const T*>(params.x);
    const T* const y = static_cast<const T*>(params.y);
    return y == nullptr ? transform(context, "add", params.count, body, out, x)
                        : transform(context, "add", params.count, body, out, x, y);
  });
}

}  // namespace xlformers::cuda
