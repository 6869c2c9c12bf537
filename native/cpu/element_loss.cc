// Losses of single elements: squared error and binary cross-entropy of a logit, with their gradients.
#include "cpu/activation_math.h"
#include "cpu/elementwise.h"

XL_KERNELS_BEGIN

template <typename T>
static Status run_squared_error(Context& context, const ElementLossParams& params) {
  transform<T>(
      context, params.count, [](Vec<T> x, Vec<T> target) { return (x - target) * (x - target); },
      static_cast<T*>(params.loss), static_cast<const T*>(params.x), static_cast<const T*>(params.target));
  return ok_status();
}

template <typename T>
static Status run_squared_error_gradient(Context& context, const ElementLossParams& params) {
  transform<T>(
      context, params.count, [](Vec<T> x, Vec<T> target, Vec<T> gradient) { return (x - target) * gradient * T{2}; },
      static_cast<T*>(params.x_gradient), static_cast<const T*>(params.x), static_cast<const T*>(params.target),
      static_cast<const T*>(params.loss_gradient));
  return ok_status();
}

// Element by element, in double: a classifier has few of them, and log1p has no vector form here.
template <typename T>
static Status run_binary_cross_entropy(Context& context, const ElementLossParams& params) {
  const T* x = static_cast<const T*>(params.x);
  const T* target = static_cast<const T*>(params.target);
  T* loss = static_cast<T*>(params.loss);
  parallel_blocks(context, params.count, kBlockElements / 8, [=](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const double logit = static_cast<double>(x[i]);
      const double magnitude = logit < 0 ? -logit : logit;
      const double positive = logit < 0 ? 0 : logit;
      loss[i] = static_cast<T>(positive - logit * static_cast<double>(target[i]) + std::log1p(std::exp(-magnitude)));
    }
  });
  return ok_status();
}

template <typename T>
static Status run_binary_cross_entropy_gradient(Context& context, const ElementLossParams& params) {
  transform<T>(
      context, params.count,
      [](Vec<T> x, Vec<T> target, Vec<T> gradient) { return (sigmoid<T>(x) - target) * gradient; },
      static_cast<T*>(params.x_gradient), static_cast<const T*>(params.x), static_cast<const T*>(params.target),
      static_cast<const T*>(params.loss_gradient));
  return ok_status();
}

XL_FLOATING_KERNEL(squared_error, ElementLossParams, run_squared_error)
XL_FLOATING_KERNEL(squared_error_gradient, ElementLossParams, run_squared_error_gradient)
XL_FLOATING_KERNEL(binary_cross_entropy, ElementLossParams, run_binary_cross_entropy)
XL_FLOATING_KERNEL(binary_cross_entropy_gradient, ElementLossParams, run_binary_cross_entropy_gradient)

XL_KERNELS_END
