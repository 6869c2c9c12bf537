// Mean over the entries that count: those with a label, or without labels those that are not zero (losses of ignored labels are).
#include "cpu/reduce.h"

XL_KERNELS_BEGIN

static double count_labels(const int32_t* labels, int64_t count) {
  int64_t counted = 0;
  for (int64_t i = 0; i < count; ++i) counted += labels[i] != kIgnoredLabel ? 1 : 0;
  return static_cast<double>(counted);
}

template <typename T>
static Status run_mean_nonzero(Context& context, const MeanNonzeroParams& params) {
  const T* x = static_cast<const T*>(params.x);
  const int32_t* labels = params.labels;
  T* out = static_cast<T*>(params.out);
  const int64_t blocks = divide_up(params.count, kBlockElements);
  double* sums = context.workspace.allocate<double>(blocks);
  double* counts = context.workspace.allocate<double>(blocks);
  parallel_blocks(context, params.count, kBlockElements, [=](int64_t begin, int64_t end, int) {
    const int64_t block = begin / kBlockElements;
    sums[block] = sum_in_double(x + begin, end - begin, [](Vec<double> v) { return v; });
    counts[block] = labels != nullptr ? count_labels(labels + begin, end - begin)
                                      : sum_in_double(x + begin, end - begin, [](Vec<double> v) {
                                          return v != Vec<double>{} ? broadcast(1.0) : Vec<double>{};
                                        });
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
  if (params.labels != nullptr) {
    const int32_t* labels = params.labels;
    T* out = static_cast<T*>(params.x_gradient);
    parallel_blocks(context, params.count, kBlockElements, [=](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) out[i] = labels[i] != kIgnoredLabel ? share : T{0};
    });
    return ok_status();
  }
  transform<T>(
      context, params.count, [=](Vec<T> v) { return v != Vec<T>{} ? broadcast(share) : Vec<T>{}; },
      static_cast<T*>(params.x_gradient), x);
  return ok_status();
}

XL_FLOATING_KERNEL(mean_nonzero, MeanNonzeroParams, run_mean_nonzero)
XL_FLOATING_KERNEL(mean_nonzero_gradient, MeanNonzeroGradientParams, run_mean_nonzero_gradient)

XL_KERNELS_END
