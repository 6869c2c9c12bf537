// out = alpha x + beta y
#include "cpu/elementwise.h"

XL_KERNELS_BEGIN

template <typename T>
static Status run_add(Context& context, const AddParams& params) {
  const T* x = static_cast<const T*>(params.x);
  const T* y = static_cast<const T*>(params.y);
  T* out = static_cast<T*>(params.out);
  const T alpha = static_cast<T>(params.alpha);
  const T beta = static_cast<T>(params.beta);
  if (y == nullptr) {
    transform<T>(context, params.count, [=](Vec<T> a) { return a * alpha; }, out, x);
  } else {
    transform<T>(context, params.count, [=](Vec<T> a, Vec<T> b) { return a * alpha + b * beta; }, out, x, y);
  }
  return ok_status();
}

XL_FLOATING_KERNEL(add, AddParams, run_add)

XL_KERNELS_END
