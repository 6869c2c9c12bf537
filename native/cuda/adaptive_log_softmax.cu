// Log-probabilities of the whole vocabulary under the projected adaptive softmax. Logits are made where the result
// belongs.
#include "cuda/adaptive_softmax.cuh"

namespace xlformers::cuda {
namespace {

// A cluster's logits, which become log-probabilities: rows of `columns`, `stride` apart.
template <typename T>
struct ClusterRows {
  T* logits;
  int64_t columns, stride;
  const T* tail_logits;  // [rows, tails] of the head; null for a tail
  Compute<T>* tails;     // [rows, tails]: log-probabilities of the tails, written with the head's
  int64_t tail_count, tail;
};

// Reads the logits twice, the second time from the L2 cache, and writes them: 32 x 267735 in bf16 are 17 MB read and
// written, 11 us.
template <typename T, int threads>
__global__ void __launch_bounds__(threads, 2) subtract_log_sum_exp(const ClusterRows<T> cluster) {
  using C = Compute<T>;
  const int64_t row = blockIdx.x;
  T* const logits = cluster.logits + row * cluster.stride;
  C* const tails = cluster.tails + row * cluster.tail_count;
  const bool head = cluster.tail_logits != nullptr;
  ExponentialSum<C> mine;
  add_row<threads>(mine, logits, cluster.columns);
  const T* const tail_logits = head ? cluster.tail_logits + row * cluster.tail_count : nullptr;
  if (head) add_row<threads>(mine, tail_logits, cluster.tail_count);
  const C log_sum_exp = block_sum_of<threads>(mine).logarithm();
  if (head) {
    for (int64_t i = threadIdx.x; i < cluster.tail_count; i += threads) tails[i] = widen(tail_logits[i]) - log_sum_exp;
  }
  const C amount = cluster.tail >= 0 ? log_sum_exp - tails[cluster.tail] : log_sum_exp;
  for_vectors<threads>(logits, cluster.columns, C{0}, [&](int64_t first, Vector<T>& values) {
#pragma unroll
    for (int i = 0; i < kVectorElements<T>; ++i) values[i] -= amount;
    store_vector(logits, first, cluster.columns, values);
  });
}

// Rows [begin, begin + size).
template <typename T>
Status chunk_log_softmax(const Context& context, const AdaptiveSoftmaxParams& params, int64_t vocabulary, int64_t begin,
                         int64_t size, T* projected_buffer, T* tail_logits, Compute<T>* tails) {
  const T* const hidden = static_cast<const T*>(params.hidden) + begin * params.d_model;
  T* const out = static_cast<T*>(params.log_probabilities) + begin * vocabulary;
  const int64_t tail_count = params.cluster_count - 1;
  for (int32_t index = 0; index < params.cluster_count; ++index) {
    const Softmax softmax = softmax_of(params, index);
    const SoftmaxCluster& cluster = *softmax.cluster;
    const T* projected = nullptr;
    Status status = project(context, DeviceCount{}, params, cluster, size, hidden, projected_buffer, &projected);
    if (!status.ok()) return status;
    const bool with_tails = softmax.part_count == 2;
    const ClusterRows<T> rows = {out + cluster.first_id,
                                 cluster.size,
                                 vocabulary,
                                 with_tails ? tail_logits : nullptr,
                                 tails,
                                 tail_count,
                                 index == 0 ? -1 : tail_column(params, index)};
    status = part_logits<T>(context, DeviceCount{}, softmax.parts[0], cluster.width, 0, cluster.size, size, projected,
                            rows.logits, vocabulary);
    if (status.ok() && with_tails) {
      status = part_logits<T>(context, DeviceCount{}, softmax.parts[1], cluster.width, 0, tail_count, size, projected,
                              tail_logits, tail_count);
    }
    if (!status.ok()) return status;
    const char* const name = "adaptive_log_softmax";
    status =
        cluster.size <= kShortRow
            ? launch(row_launch(context, name, size, kShortRowThreads), subtract_log_sum_exp<T, kShortRowThreads>, rows)
            : launch(row_launch(context, name, size, kLongRowThreads), subtract_log_sum_exp<T, kLongRowThreads>, rows);
    if (!status.ok()) return status;
  }
  return ok_status();
}

}  // namespace

Status adaptive_log_softmax_in_chunks(const Context& context, const AdaptiveSoftmaxParams& params,
                                      const ChunkLimits& limits) {
  return with_float_type(params.dtype, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    int64_t vocabulary = 0, widest = 0;
    for (int32_t i = 0; i < params.cluster_count; ++i) {
      vocabulary += params.clusters[i].size;
      widest = std::max(widest, params.clusters[i].width);
    }
    const int64_t chunk_rows = std::min(params.rows, limits.most_rows), tail_count = params.cluster_count - 1;
    T* const projected = context.workspace.allocate<T>(chunk_rows * widest);
    T* const tail_logits = context.workspace.allocate<T>(chunk_rows * tail_count);
    auto* const tails = context.workspace.allocate<Compute<T>>(chunk_rows * tail_count);
    for (int64_t begin = 0; begin < params.rows; begin += chunk_rows) {
      const int64_t size = std::min(params.rows - begin, chunk_rows);
      const Status status =
          chunk_log_softmax<T>(context, params, vocabulary, begin, size, projected, tail_logits, tails);
      if (!status.ok()) return status;
    }
    return ok_status();
  });
}

Status adaptive_log_softmax(const Context& context, const void* block) {
  return adaptive_log_softmax_in_chunks(context, *static_cast<const AdaptiveSoftmaxParams*>(block), kChunkLimits);
}

}  // namespace xlformers::cuda
