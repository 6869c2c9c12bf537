// Cross-entropy of a softmax over rows of logits, and its gradient.
#include "cpu/log_sum_exp.h"

XL_KERNELS_BEGIN

static Status check_labels(const char* name, const SoftmaxCrossEntropyParams& params) {
  for (int64_t row = 0; row < params.rows; ++row) {
    const int32_t label = params.labels[row];
    if (label != kIgnoredLabel && (label < 0 || label >= params.columns)) {
      return make_status(StatusCode::out_of_range, "%s: label %d at row %lld is neither %d (ignored) nor in [0, %lld)",
                         name, label, static_cast<long long>(row), kIgnoredLabel,
                         static_cast<long long>(params.columns));
    }
  }
  return ok_status();
}

template <typename T>
static Status run_softmax_cross_entropy(Context& context, const SoftmaxCrossEntropyParams& params) {
  const Status status = check_labels("softmax_cross_entropy", params);
  if (!status.ok()) return status;
  parallel_blocks(context, params.rows, rows_per_task(params.columns), [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) {
      const T* logits = static_cast<const T*>(params.logits) + row * params.columns;
      const int32_t label = params.labels[row];
      LogSumExp sum;
      add_to(sum, logits, params.columns);
      const double value = sum.value();
      if (params.log_sum_exp != nullptr) static_cast<T*>(params.log_sum_exp)[row] = static_cast<T>(value);
      static_cast<T*>(params.loss)[row] =
          label == kIgnoredLabel ? T{0} : static_cast<T>(value - static_cast<double>(logits[label]));
    }
  });
  return ok_status();
}

// logits_gradient = loss_gradient (softmax - one-hot)
template <typename T>
static Status run_softmax_cross_entropy_gradient(Context& context, const SoftmaxCrossEntropyParams& params) {
  const Status status = check_labels("softmax_cross_entropy_gradient", params);
  if (!status.ok()) return status;
  parallel_blocks(context, params.rows, rows_per_task(params.columns), [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) {
      const T* logits = static_cast<const T*>(params.logits) + row * params.columns;
      T* gradient = static_cast<T*>(params.logits_gradient) + row * params.columns;
      const int32_t label = params.labels[row];
      if (label == kIgnoredLabel) {
        for (int64_t i = 0; i < params.columns; ++i) gradient[i] = 0;
        continue;
      }
      const T log_sum_exp = static_cast<const T*>(params.log_sum_exp)[row];
      const T scale = static_cast<const T*>(params.loss_gradient)[row];
      transform_range<T>(
          0, params.columns, [=](Vec<T> v) { return exponential(v - log_sum_exp) * scale; }, gradient, logits);
      gradient[label] -= scale;
    }
  });
  return ok_status();
}

XL_FLOATING_KERNEL(softmax_cross_entropy, SoftmaxCrossEntropyParams, run_softmax_cross_entropy)
XL_FLOATING_KERNEL(softmax_cross_entropy_gradient, SoftmaxCrossEntropyParams, run_softmax_cross_entropy_gradient)

XL_KERNELS_END
