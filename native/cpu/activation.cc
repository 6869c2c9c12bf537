// Activation functions over arrays, and their gradients.
#include "cpu/activation_math.h"
#include "cpu/elementwise.h"

XL_KERNELS_BEGIN

template <typename T>
static Status run_activation(Context& context, const ActivationParams& params) {
  const T* x = static_cast<const T*>(params.x);
  T* out = static_cast<T*>(params.out);
  return with_activation(params.activation, [&](auto tag) {
    constexpr Activation kind = decltype(tag)::value;
    transform<T>(context, params.count, [](Vec<T> v) { return activate<kind, T>(v); }, out, x);
  });
}

template <typename T>
static Status run_activation_gradient(Context& context, const ActivationGradientParams& params) {
  const T* x = static_cast<const T*>(params.x);
  const T* out_gradient = static_cast<const T*>(params.out_gradient);
  T* x_gradient = static_cast<T*>(params.x_gradient);
  const T scale = static_cast<T>(params.scale);
  return with_activation(params.activation, [&](auto tag) {
    constexpr Activation kind = decltype(tag)::value;
    if constexpr (kind == Activation::none) {  // x may be absent: its slope is 1 everywhere
      transform<T>(context, params.count, [=](Vec<T> g) { return g * scale; }, x_gradient, out_gradient);
    } else {
      transform<T>(
          context, params.count, [=](Vec<T> v, Vec<T> g) { return g * scale * activation_slope<kind, T>(v); },
          x_gradient, x, out_gradient);
    }
  });
}

XL_FLOATING_KERNEL(activation, ActivationParams, run_activation)
XL_FLOATING_KERNEL(activation_gradient, ActivationGradientParams, run_activation_gradient)

XL_KERNELS_END
