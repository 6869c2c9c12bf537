#include "cuda/elementwise.cuh"

namespace xlformers::cuda {
namespace {

// out = alpha * x + beta * y
template <typename T>
struct Add {
  Compute<T> alpha, beta;
  const T* x;
  const T* y;  // may be null
  T* out;

  __device__ void operator()(int64_t i) const {
    Compute<T> sum = alpha * widen(x[i]);
    if (y != nullptr) sum += beta * widen(y[i]);
    out[i] = narrow<T>(sum);
  }
};

}  // namespace

Status add(const Context& context, const void* block) {
  const auto& params = *static_cast<const AddParams*>(block);
  return with_float_type(params.dtype, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    const Add<T> body = {static_cast<Compute<T>>(params.alpha), static_cast<Compute<T>>(params.beta), static_cast<const T*>(params.x),
                         static_cast<const T*>(params.y), static_cast<T*>(params.out)};
    return for_each(context, "add", params.count, body);
  });
}

}  // namespace xlformers::cuda
