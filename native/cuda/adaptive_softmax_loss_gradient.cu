// Gradient of adaptive_softmax_loss. Of every softmax, with g the gradient of a row's loss:
//   d logits = g (softmax - one-hot),  d weight = d logits^T h P,  d bias = column sums,  d(h P) = d logits weight,
//   d P = h^T d(h P),  d h = d(h P) P^T, summed over the softmaxes that the row meets.
// Shares of chunks are added up in the operand's type, in the order of rows and columns.
//
// H100, the shape of adaptive_softmax_loss.cu: three products of the head's size, 0.40 TFLOP, 0.6 ms, and logits that
// are written once, read four times and overwritten once.
#include "cuda/adaptive_softmax.cuh"

namespace xlformers::cuda {
namespace {

Status fill_zero(const Context& context, DType dtype, void* out, int64_t count) {
  if (out == nullptr) return ok_status();
  const FillParams params = {dtype, count, 0.0, out};
  return fill(context, &params);
}

// Without rows there are no chunks that would overwrite the weights' gradients.
Status clear_weight_gradients(const Context& context, const AdaptiveSoftmaxParams& params) {
  for (int32_t index = 0; index < params.cluster_count; ++index) {
    const Softmax softmax = softmax_of(params, index);
    const SoftmaxCluster& cluster = *softmax.cluster;
    Status status = fill_zero(context, params.dtype, cluster.projection_gradient, params.d_model * cluster.width);
    for (int i = 0; i < softmax.part_count; ++i) {
      const LogitPart& part = softmax.parts[i];
      if (status.ok()) status = fill_zero(context, params.dtype, part.weight_gradient, part.columns * cluster.width);
      if (status.ok()) status = fill_zero(context, params.dtype, part.bias_gradient, part.columns);
    }
    if (!status.ok()) return status;
  }
  return ok_status();
}

// The bias's gradient of the `count` columns of a block that lie at `logits`.
template <typename T>
Status add_bias_gradient(const Context& context, const LogitChunks<T>& chunks, LogitBlock<T> block, T* logits,
                         int64_t count, bool accumulate, T* out) {
  constexpr int64_t kColumns = int64_t{kSumLanes} * kVectorElements<T>;
  block.logits = logits;
  block.columns = count;
  const auto blocks = static_cast<unsigned>((count + kVectorElements<T> - 1 + kColumns - 1) / kColumns);
  return launch(
      {"adaptive_softmax_loss_gradient: sum_columns", dim3(blocks), dim3(kSumLanes, kSumSlices), 0, context.stream},
      sum_columns<T>, block, chunks.size(), accumulate, out);
}

template <typename T>
Status turn_logits(const Context& context, const LogitChunks<T>& chunks, const ChunkBuffers<T>& buffers,
                   const LogitBlock<T>& block, const Compute<T>* loss_gradient) {
  const char* const name = "adaptive_softmax_loss_gradient: turn_into_gradient";
  // Few rows are shared by blocks, each with four vectors to a thread or more.
  constexpr int64_t kTurn = int64_t{kLongRowThreads} * kVectorElements<T>;
  const auto shape = [&](int threads, int64_t parts) {
    return row_launch(context, name, chunks.size(), threads,
                      static_cast<unsigned>(std::min<int64_t>(std::max<int64_t>(parts, 1), 16)));
  };
  if (block.columns <= kShortRow) {
    return launch(shape(kShortRowThreads, 1), turn_into_gradient<T, kShortRowThreads>, block, buffers.sums.log_sum_exp,
                  loss_gradient);
  }
  return launch(shape(kLongRowThreads, block.columns / (4 * kTurn)), turn_into_gradient<T, kLongRowThreads>, block,
                buffers.sums.log_sum_exp, loss_gradient);
}

// What the gradients of chunks need besides the logits.
template <typename T>
struct GradientBuffers {
  T* projected;  // d(h P): [chunk rows, width]
  T* scattered;  // d h of gathered rows: [chunk rows, d_model]
};

// One chunk's share of all gradients.
template <typename T>
Status chunk_gradient(const Context& context, const AdaptiveSoftmaxParams& params, LogitChunks<T>& chunks,
                      const ChunkBuffers<T>& buffers, const GradientBuffers<T>& gradients) {
  const SoftmaxCluster& cluster = *chunks.softmax().cluster;
  const int64_t width = cluster.width, d_model = params.d_model, size = chunks.size();
  const bool later = chunks.begin() > 0;  // the weights' gradients hold the shares of earlier chunks
  T* const hidden_gradient = static_cast<T*>(params.hidden_gradient);
  // The head overwrites; what the tails' rows get is added.
  T* const target = chunks.gathers() ? gradients.scattered : hidden_gradient + chunks.begin() * d_model;
  T* const product_gradient = cluster.projection != nullptr ? gradients.projected : target;
  bool accumulate = false;

  Status status = chunks.for_blocks([&](const LogitBlock<T>& block, bool) {
    const Status turned =
        turn_logits<T>(context, chunks, buffers, block, static_cast<const Compute<T>*>(params.loss_gradient));
    if (!turned.ok()) return turned;
    return chunks.for_parts(block, [&](const LogitPart& part, int64_t first, int64_t count, T* logits) {
      const T* const weight = static_cast<const T*>(part.weight) + first * width;
      Status result = multiply<T>(context, chunks.there(), size, width, count, {logits, block.stride, false},
                                  {weight, width, false}, nullptr, accumulate, product_gradient, width);
      accumulate = true;
      if (result.ok() && part.weight_gradient != nullptr) {
        result = multiply<T>(context, chunks.there(), count, width, size, {logits, block.stride, true},
                             {chunks.projected(), width, false}, nullptr, later,
                             static_cast<T*>(part.weight_gradient) + first * width, width);
      }
      if (result.ok() && part.bias_gradient != nullptr) {
        result = add_bias_gradient<T>(context, chunks, block, logits, count, later,
                                      static_cast<T*>(part.bias_gradient) + first);
      }
      return result;
    });
  });
  if (status.ok() && cluster.projection_gradient != nullptr) {
    status = multiply<T>(context, chunks.there(), d_model, width, size, {chunks.hidden(), d_model, true},
                         {gradients.projected, width, false}, nullptr, later,
                         static_cast<T*>(cluster.projection_gradient), width);
  }
  if (status.ok() && cluster.projection != nullptr) {
    const T* const projection = static_cast<const T*>(cluster.projection);
    status = multiply<T>(context, chunks.there(), size, d_model, width, {gradients.projected, width, false},
                         {projection, width, true}, nullptr, false, target, d_model);
  }
  if (!status.ok() || !chunks.gathers()) return status;
  return launch(chunks.row_shape("adaptive_softmax_loss_gradient: add_scattered_rows", kCopyThreads),
                add_scattered_rows<T>, chunks.rows(), chunks.begin(), d_model,
                static_cast<const T*>(gradients.scattered), hidden_gradient);
}

}  // namespace

Status adaptive_softmax_loss_gradient_in_chunks(const Context& context, const AdaptiveSoftmaxParams& params,
                                                const ChunkLimits& limits) {
  if (params.rows == 0) return clear_weight_gradients(context, params);
  return with_float_type(params.dtype, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    RowGroups groups;
    Status status = groups.find(context, params, Operator::adaptive_softmax_loss_gradient);
    const ChunkBuffers<T> buffers(context, params, limits);
    const GradientBuffers<T> gradients = {
        context.workspace.allocate<T>(buffers.chunk_projected),
        params.cluster_count > 1 ? context.workspace.allocate<T>(buffers.chunk_rows * params.d_model) : nullptr};
    for (int32_t index = 0; status.ok() && index < params.cluster_count; ++index) {
      LogitChunks<T> chunks(context, params, buffers, groups, index);
      status =
          chunks.for_chunks(nullptr, [&] { return chunk_gradient<T>(context, params, chunks, buffers, gradients); });
    }
    return status;
  });
}

Status adaptive_softmax_loss_gradient(const Context& context, const void* block) {
  return adaptive_softmax_loss_gradient_in_chunks(context, *static_cast<const AdaptiveSoftmaxParams*>(block),
                                                  kChunkLimits);
}

}  // namespace xlformers::cuda
