// Log-probabilities of the whole vocabulary under the projected adaptive softmax. Logits are made where the result
// belongs.
#include "cpu/adaptive_softmax.h"

XL_KERNELS_BEGIN

namespace {

template <typename T>
void subtract(T* row, int64_t columns, double value) {
  const T amount = static_cast<T>(value);
  transform_range<T>(0, columns, [=](Vec<T> v) { return v - amount; }, row, static_cast<const T*>(row));
}

// Rows [begin, begin + size). tails: [size, cluster_count - 1], the log-probabilities of the tails.
template <typename T>
Status chunk_log_softmax(Context& context, const AdaptiveSoftmaxParams& params, int64_t vocabulary, int64_t begin,
                         int64_t size, T* projected_buffer, T* tails) {
  const T* hidden = static_cast<const T*>(params.hidden) + begin * params.d_model;
  T* out = static_cast<T*>(params.log_probabilities) + begin * vocabulary;
  const int64_t tail_count = params.cluster_count - 1;
  for (int32_t index = 0; index < params.cluster_count; ++index) {
    const Softmax softmax = softmax_of(params, index);
    const SoftmaxCluster& cluster = *softmax.cluster;
    const T* projected = nullptr;
    Status status = project(context, params, cluster, size, hidden, projected_buffer, &projected);
    if (!status.ok()) return status;
    T* logits = out + cluster.first_id;
    status =
        part_logits(context, softmax.parts[0], cluster.width, 0, cluster.size, size, projected, logits, vocabulary);
    if (status.ok() && softmax.part_count == 2) {
      status = part_logits(context, softmax.parts[1], cluster.width, 0, tail_count, size, projected, tails, tail_count);
    }
    if (!status.ok()) return status;
    parallel_blocks(context, size, rows_per_task(cluster.size), [&](int64_t first, int64_t last, int) {
      for (int64_t i = first; i < last; ++i) {
        LogSumExp sum;
        add_to(sum, logits + i * vocabulary, cluster.size);
        if (index == 0) {
          add_to(sum, tails + i * tail_count, tail_count);
          subtract(tails + i * tail_count, tail_count, sum.value());
          subtract(logits + i * vocabulary, cluster.size, sum.value());
        } else {
          const double tail = static_cast<double>(tails[i * tail_count + tail_column(params, index)]);
          subtract(logits + i * vocabulary, cluster.size, sum.value() - tail);
        }
      }
    });
  }
  return ok_status();
}

}  // namespace

template <typename T>
static Status run_adaptive_log_softmax(Context& context, const AdaptiveSoftmaxParams& params) {
  int64_t vocabulary = 0;
  int64_t widest = 0;
  for (int32_t i = 0; i < params.cluster_count; ++i) {
    vocabulary += params.clusters[i].size;
    if (params.clusters[i].width > widest) widest = params.clusters[i].width;
  }
  const int64_t chunk_rows = at_most(params.rows, kMostChunkRows);
  T* projected = context.workspace.allocate<T>(chunk_rows * widest);
  T* tails = context.workspace.allocate<T>(chunk_rows * (params.cluster_count - 1));
  for (int64_t begin = 0; begin < params.rows; begin += chunk_rows) {
    const int64_t size = at_most(params.rows - begin, chunk_rows);
    const Status status = chunk_log_softmax(context, params, vocabulary, begin, size, projected, tails);
    if (!status.ok()) return status;
  }
  return ok_status();
}

XL_FLOATING_KERNEL(adaptive_log_softmax, AdaptiveSoftmaxParams, run_adaptive_log_softmax)

XL_KERNELS_END
