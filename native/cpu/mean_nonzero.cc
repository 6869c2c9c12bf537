// Mean over the entries that are not zero: of losses, those of ignored labels are exactly zero.
#include "cpu/reduce.h"

XL_KERNELS_BEGIN

template <typename T>
static Status run_mean_nonzero(Context& context, const MeanNonzeroParams& params) {
  const T* x = static_cast<const T*>(params.x);
  T* out = static_cast<T*>(params.out);
  const int64_t blocks = divide_up(params.count, kBlockElements);
  double* sums = context.workspace.allocate<double>(blocks);
  double* counts = context.workspace.allocate<double>(blocks);
  parallel_blocks(context, params.count, kBlockElements, [=](int64_t begin, int64_t end, int) {
    const int64_t block = begin / kBlockElements;
    sums[block] = sum_in_double(x + begin, end - begin, [](Vec<double> v) { return v; });
    counts[block] = sum_in_double(x + begin, end - begin,
                                  [](Vec<double> v) { return v != Vec<double>{} ? broadcast(1.0) : Vec<double>{}; });
  });
  const double sum = add_in_order(sums, blocks);
  const double count = add_in_order(counts, blocks);
  out[0] = count > 0 ? static_cast<T>(sum / count) : T{0};
  out[1] = static_cast<T>(count);
  return ok_status();
}

template <typename T>
static Status run_mean_nonzero_gradient(Context& context, const MeanNonzeroGradientParams& params) {
  const T* x = static_cast<const T*>(params.x);
  const double count = static_cast<double>(static_cast<const T*>(params.out)[1]);
  const double gradient = static_cast<double>(static_cast<const T*>(params.out_gradient)[0]);
  const T share = count > 0 ? static_cast<T>(gradient / count) : T{0};
  transform<T>(
      context, params.count, [=](Vec<T> v) { return v != Vec<T>{} ? broadcast(share) : Vec<T>{}; },
      static_cast<T*>(params.x_gradient), x);
  return ok_status();
}

XL_FLOATING_KERNEL(mean_nonzero, MeanNonzeroParams, run_mean_nonzero)
XL_FLOATING_KERNEL(mean_nonzero_gradient, MeanNonzeroGradientParams, run_mean_nonzero_gradient)

XL_KERNELS_END
