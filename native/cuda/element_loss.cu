// Losses of single elements: squared error and binary cross-entropy of a logit, with their gradients. Losses and their
// gradients are Compute<T>: float for bf16 and fp16.
#include "cuda/activation_math.cuh"
#include "cuda/elementwise.cuh"

namespace xlformers::cuda {
namespace {

__device__ __forceinline__ float logarithm1p(float x) { return log1pf(x); }
__device__ __forceinline__ double logarithm1p(double x) { return log1p(x); }

template <typename T>
struct SquaredError {
  using C = Compute<T>;

  __device__ C operator()(T x, T target) const {
    const C difference = widen(x) - widen(target);
    return difference * difference;
  }
  __device__ T operator()(T x, T target, C gradient) const {
    return narrow<T>((widen(x) - widen(target)) * gradient * C{2});
  }
};

template <typename T>
struct BinaryCrossEntropy {
  using C = Compute<T>;

  __device__ C operator()(T x, T target) const {
    const C logit = widen(x);
    const C magnitude = logit < C{0} ? -logit : logit, positive = logit < C{0} ? C{0} : logit;
    return positive - logit * widen(target) + logarithm1p(exponential(-magnitude));
  }
  __device__ T operator()(T x, T target, C gradient) const {
    return narrow<T>((sigmoid(widen(x)) - widen(target)) * gradient);
  }
};

template <template <typename> class Loss>
Status run_loss(const Context& context, const char* name, const void* block) {
  const auto& params = *static_cast<const ElementLossParams*>(block);
  return with_float_type(params.dtype, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    return transform(context, name, params.count, Loss<T>{}, static_cast<Compute<T>*>(params.loss),
                     static_cast<const T*>(params.x), static_cast<const T*>(params.target));
  });
}

template <template <typename> class Loss>
Status run_gradient(const Context& context, const char* name, const void* block) {
  const auto& params = *static_cast<const ElementLossParams*>(block);
  return with_float_type(params.dtype, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    return transform(context, name, params.count, Loss<T>{}, static_cast<T*>(params.x_gradient),
                     static_cast<const T*>(params.x), static_cast<const T*>(params.target),
                     static_cast<const Compute<T>*>(params.loss_gradient));
  });
}

}  // namespace

Status squared_error(const Context& context, const void* block) {
  return run_loss<SquaredError>(context, "squared_error", block);
}
Status squared_error_gradient(const Context& context, const void* block) {
  return run_gradient<SquaredError>(context, "squared_error_gradient", block);
}
Status binary_cross_entropy(const Context& context, const void* block) {
  return run_loss<BinaryCrossEntropy>(context, "binary_cross_entropy", block);
}
Status binary_cross_entropy_gradient(const Context& context, const void* block) {
  return run_gradient<BinaryCrossEntropy>(context, "binary_cross_entropy_gradient", block);
}

}  // namespace xlformers::cuda
