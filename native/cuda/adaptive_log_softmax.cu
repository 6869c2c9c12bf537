// Log-probabilities of the whole vocabulary under the projected adaptive softmax. Logits are made where the result
// belongs.
#include "cuda/adaptive_softmax.cuh"

namespace xlformers::cuda {
namespace {

// Logits that become log-probabilities: the head's, or those of tails; rows `stride` apart.
template <typename T>
struct LogitRows {
  static constexpr int kMostParts = 64;  // of a launch

  T* out;  // [rows, vocabulary]
  int64_t stride;
  const T* tail_logits;  // [rows, tails] of the head; null: these are tails
  Compute<T>* tails;     // [rows, tails]: log-probabilities of the tails, written with the head's
  int64_t tail_count;
  struct Part {
    int64_t first, columns, tail;
  } parts[kMostParts];
};

// A block a row and part. Reads the logits twice, the second time from the L2 cache, and writes them: 32 x 267735 in
// bf16 are 17 MB read and written, 11 us.
template <typename T, int threads>
__global__ void __launch_bounds__(threads, 2) subtract_log_sum_exp(const __grid_constant__ LogitRows<T> rows) {
  using C = Compute<T>;
  const int64_t row = blockIdx.x;
  const auto& part = rows.parts[blockIdx.y];
  T* const logits = rows.out + row * rows.stride + part.first;
  C* const tails = rows.tails + row * rows.tail_count;
  const T* const tail_logits = rows.tail_logits != nullptr ? rows.tail_logits + row * rows.tail_count : nullptr;
  ExponentialSum<C> mine;
  add_row<threads>(mine, logits, part.columns);
  if (tail_logits != nullptr) add_row<threads>(mine, tail_logits, rows.tail_count);
  const C log_sum_exp = block_sum_of<threads>(mine).logarithm();
  if (tail_logits != nullptr) {
    for (int64_t i = threadIdx.x; i < rows.tail_count; i += threads) tails[i] = widen(tail_logits[i]) - log_sum_exp;
  }
  const C amount = part.tail >= 0 ? log_sum_exp - tails[part.tail] : log_sum_exp;
  for_vectors<threads>(logits, part.columns, C{0}, [&](int64_t first, Vector<T>& values) {
#pragma unroll
    for (int i = 0; i < kVectorElements<T>; ++i) values[i] -= amount;
    store_vector(logits, first, part.columns, values);
  });
}

template <typename T>
Status subtract(const Context& context, const LogitRows<T>& rows, int64_t size, unsigned parts) {
  int64_t widest = 0;
  for (unsigned i = 0; i < parts; ++i) widest = std::max(widest, rows.parts[i].columns);
  const auto shape = [&](int threads) { return row_launch(context, "adaptive_log_softmax", size, threads, parts); };
  return widest <= kShortRow ? launch(shape(kShortRowThreads), subtract_log_sum_exp<T, kShortRowThreads>, rows)
                             : launch(shape(kLongRowThreads), subtract_log_sum_exp<T, kLongRowThreads>, rows);
}

// Rows [begin, begin + size).
template <typename T>
Status chunk_log_softmax(const Context& context, const AdaptiveSoftmaxParams& params, int64_t vocabulary, int64_t begin,
                         int64_t size, T* projected_buffer, T* tail_logits, Compute<T>* tails) {
  const T* const hidden = static_cast<const T*>(params.hidden) + begin * params.d_model;
  T* const out = static_cast<T*>(params.log_probabilities) + begin * vocabulary;
  const int64_t tail_count = params.cluster_count - 1;
  LogitRows<T> rows = {out, vocabulary, nullptr, tails, tail_count, {}};
  unsigned parts = 0;
  for (int32_t index = 0; index < params.cluster_count; ++index) {
    const Softmax softmax = softmax_of(params, index);
    const SoftmaxCluster& cluster = *softmax.cluster;
    const T* projected = nullptr;
    Status status = project(context, DeviceCount{}, params, cluster, size, hidden, projected_buffer, &projected);
    if (!status.ok()) return status;
    status = part_logits<T>(context, DeviceCount{}, softmax.parts[0], cluster.width, 0, cluster.size, size, projected,
                            out + cluster.first_id, vocabulary);
    if (status.ok() && softmax.part_count == 2) {
      status = part_logits<T>(context, DeviceCount{}, softmax.parts[1], cluster.width, 0, tail_count, size, projected,
                              tail_logits, tail_count);
    }
    if (!status.ok()) return status;
    rows.parts[parts++] = {cluster.first_id, cluster.size, index == 0 ? -1 : tail_column(params, index)};
    // The head first, which the tails need; these together.
    if (index > 0 && index + 1 < params.cluster_count && parts < LogitRows<T>::kMostParts) continue;
    rows.tail_logits = softmax.part_count == 2 ? tail_logits : nullptr;
    status = subtract(context, rows, size, parts);
    if (!status.ok()) return status;
    parts = 0;
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
