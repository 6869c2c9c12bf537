// Gradient of adaptive_softmax_loss. Of every softmax, with g the gradient of a row's loss:
//   d logits = g (softmax - one-hot),  d weight = d logits^T h P,  d bias = column sums,  d(h P) = d logits weight,
//   d P = h^T d(h P),  d h = d(h P) P^T, summed over the softmaxes that the row meets.
#include "cpu/adaptive_softmax.h"

XL_KERNELS_BEGIN

namespace {

template <typename T>
void fill_zero(Context& context, void* out, int64_t count) {
  if (out == nullptr) return;
  T* values = static_cast<T*>(out);
  parallel_blocks(context, count, kBlockElements, [=](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) values[i] = 0;
  });
}

template <typename T>
Status add_column_sum(Context& context, int64_t rows, int64_t columns, const T* x, bool accumulate, T* out) {
  const ColumnSumParams params = {sizeof(T) == 4 ? DType::f32 : DType::f64, rows, columns, accumulate, x, columns, out};
  const Workspace::Mark mark = context.workspace.mark();
  const Status status = column_sum(context, &params);
  context.workspace.release(mark);
  return status;
}

// logits -> g (softmax - one-hot), in place; [size, count], the softmax's columns from first_column on
template <typename T>
void logit_gradient(Context& context, const AdaptiveSoftmaxParams& params, const LogitChunks<T>& chunks, int64_t size,
                    int64_t first_column, int64_t count, T* logits) {
  const T* loss_gradient = static_cast<const T*>(params.loss_gradient);
  parallel_blocks(context, size, rows_per_task(count), [&](int64_t first, int64_t last, int) {
    for (int64_t i = first; i < last; ++i) {
      T* row = logits + i * count;
      const T scale = loss_gradient[chunks.row(i)];
      const T log_sum_exp = static_cast<T>(chunks.log_sum_exp(i));
      transform_range<T>(0, count, [=](Vec<T> v) { return exponential(v - log_sum_exp) * scale; }, row, row);
      const int64_t column = chunks.label_column(i) - first_column;
      if (column >= 0 && column < count) row[column] -= scale;
    }
  });
}

template <typename T>
void add_scattered(Context& context, const LogitChunks<T>& chunks, int64_t size, int64_t d_model, const T* rows,
                   T* out) {
  parallel_blocks(context, size, rows_per_task(d_model), [&](int64_t first, int64_t last, int) {
    for (int64_t i = first; i < last; ++i) {
      T* target = out + chunks.row(i) * d_model;
      transform_range<T>(
          0, d_model, [](Vec<T> held, Vec<T> v) { return held + v; }, target, target, rows + i * d_model);
    }
  });
}

// One chunk's share of all gradients. later: the weights' gradients hold the shares of earlier chunks.
template <typename T>
Status chunk_gradient(Context& context, const AdaptiveSoftmaxParams& params, const SoftmaxCluster& cluster,
                      LogitChunks<T>& chunks, int64_t size, bool later, T* projected_gradient, T* scattered) {
  const int64_t width = cluster.width;
  const int64_t d_model = params.d_model;
  T* hidden_gradient = static_cast<T*>(params.hidden_gradient);
  // Rows that lie together take their share where it belongs; the others go through scattered.
  const bool direct = chunks.contiguous();
  T* target = direct ? hidden_gradient + chunks.row(0) * d_model : scattered;
  T* product_gradient = cluster.projection != nullptr ? projected_gradient : target;  // d(h P)
  bool accumulate = cluster.projection == nullptr && direct;

  const auto add_block = [&](const LogitPart& part, int64_t first, int64_t first_column, int64_t count, T* logits) {
    logit_gradient(context, params, chunks, size, first_column, count, logits);
    const T* weight = static_cast<const T*>(part.weight) + first * width;
    Status result = multiply<T>(context, size, width, count, {logits, count, false}, {weight, width, false}, nullptr,
                                accumulate, product_gradient, width);
    accumulate = true;
    if (result.ok() && part.weight_gradient != nullptr) {
      T* weight_gradient = static_cast<T*>(part.weight_gradient) + first * width;
      result = multiply<T>(context, count, width, size, {logits, count, true}, {chunks.projected(), width, false},
                           nullptr, later, weight_gradient, width);
    }
    if (result.ok() && part.bias_gradient != nullptr) {
      result = add_column_sum(context, size, count, logits, later, static_cast<T*>(part.bias_gradient) + first);
    }
    return result;
  };
  Status status = chunks.for_blocks(add_block);
  if (!status.ok()) return status;

  if (cluster.projection != nullptr) {
    if (cluster.projection_gradient != nullptr) {
      status = multiply<T>(context, d_model, width, size, {chunks.hidden(), d_model, true},
                           {projected_gradient, width, false}, nullptr, later,
                           static_cast<T*>(cluster.projection_gradient), width);
      if (!status.ok()) return status;
    }
    const T* projection = static_cast<const T*>(cluster.projection);
    status = multiply<T>(context, size, d_model, width, {projected_gradient, width, false}, {projection, width, true},
                         nullptr, direct, target, d_model);
    if (!status.ok()) return status;
  }
  if (!direct) add_scattered(context, chunks, size, d_model, scattered, hidden_gradient);
  return ok_status();
}

template <typename T>
Status cluster_gradient(Context& context, const AdaptiveSoftmaxParams& params, int32_t index) {
  const Softmax softmax = softmax_of(params, index);
  const SoftmaxCluster& cluster = *softmax.cluster;
  const LabelledRows rows = labelled_rows(context, params, index);
  if (rows.count == 0) {
    for (int i = 0; i < softmax.part_count; ++i) {
      fill_zero<T>(context, softmax.parts[i].weight_gradient, softmax.parts[i].columns * cluster.width);
      fill_zero<T>(context, softmax.parts[i].bias_gradient, softmax.parts[i].columns);
    }
    fill_zero<T>(context, cluster.projection_gradient, params.d_model * cluster.width);
    return ok_status();
  }
  LogitChunks<T> chunks(context, params, softmax, rows);
  T* projected_gradient =
      cluster.projection != nullptr ? context.workspace.allocate<T>(chunks.chunk_rows() * cluster.width) : nullptr;
  T* scattered = context.workspace.allocate<T>(chunks.chunk_rows() * params.d_model);
  for (int64_t begin = 0; begin < rows.count; begin += chunks.chunk_rows()) {
    const int64_t size = at_most(rows.count - begin, chunks.chunk_rows());
    Status status = chunks.enter(begin, size);
    if (!status.ok()) return status;
    status = chunk_gradient(context, params, cluster, chunks, size, begin > 0, projected_gradient, scattered);
    if (!status.ok()) return status;
  }
  return ok_status();
}

}  // namespace

template <typename T>
static Status run_adaptive_softmax_loss_gradient(Context& context, const AdaptiveSoftmaxParams& params) {
  Status status = check_adaptive_labels("adaptive_softmax_loss_gradient", params);
  if (!status.ok()) return status;
  fill_zero<T>(context, params.hidden_gradient, params.rows * params.d_model);
  for (int32_t index = 0; index < params.cluster_count; ++index) {
    const Workspace::Mark mark = context.workspace.mark();
    status = cluster_gradient<T>(context, params, index);
    if (!status.ok()) return status;
    context.workspace.release(mark);
  }
  return ok_status();
}

XL_FLOATING_KERNEL(adaptive_softmax_loss_gradient, AdaptiveSoftmaxParams, run_adaptive_softmax_loss_gradient)

XL_KERNELS_END
