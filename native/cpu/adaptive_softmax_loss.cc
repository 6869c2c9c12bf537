// Negative log-likelihoods under the projected adaptive softmax: the head's for every row, and the tail's where the
// label lies in one.
#include "cpu/adaptive_softmax.h"

XL_KERNELS_BEGIN

template <typename T>
static Status add_cluster_loss(Context& context, const AdaptiveSoftmaxParams& params, int32_t index, double* loss) {
  const Softmax softmax = softmax_of(params, index);
  const LabelledRows rows = labelled_rows(context, params, index);
  if (rows.count == 0) return ok_status();
  LogitChunks<T> chunks(context, params, softmax, rows);
  for (int64_t begin = 0; begin < rows.count; begin += chunks.chunk_rows()) {
    const int64_t size = at_most(rows.count - begin, chunks.chunk_rows());
    const Status status = chunks.enter(begin, size);
    if (!status.ok()) return status;
    for (int64_t i = 0; i < size; ++i) loss[chunks.row(i)] += chunks.log_sum_exp(i) - chunks.label_logit(i);
  }
  return ok_status();
}

template <typename T>
static Status run_adaptive_softmax_loss(Context& context, const AdaptiveSoftmaxParams& params) {
  Status status = check_adaptive_labels("adaptive_softmax_loss", params);
  if (!status.ok()) return status;
  double* loss = context.workspace.allocate<double>(params.rows);
  for (int64_t row = 0; row < params.rows; ++row) loss[row] = 0;
  for (int32_t index = 0; index < params.cluster_count; ++index) {
    const Workspace::Mark mark = context.workspace.mark();
    status = add_cluster_loss<T>(context, params, index, loss);
    if (!status.ok()) return status;
    context.workspace.release(mark);
  }
  for (int64_t row = 0; row < params.rows; ++row) static_cast<T*>(params.loss)[row] = static_cast<T>(loss[row]);
  return ok_status();
}

XL_FLOATING_KERNEL(adaptive_softmax_loss, AdaptiveSoftmaxParams, run_adaptive_softmax_loss)

XL_KERNELS_END
