// Gradient of layer_norm. With n = (s - mean) rstd and g = dy weight, over a row:
//   ds = rstd (g - mean(g) - n mean(g n)), weight gradient = sum over rows of dy n, bias gradient = sum over rows of
//   dy.
#include "cpu/elementwise.h"
#include "cpu/philox_vec.h"

XL_KERNELS_BEGIN

namespace {

// Sums over rows are taken per task, then over tasks in order; the number of tasks depends on the number of rows only.
constexpr int64_t kMostTasks = 64;
constexpr int64_t kLeastRows = 8;

template <typename T>
struct Row {
  const T* s;
  const T* y_gradient;
  T mean;
  T rstd;
};

// Adds the row to the sums over rows; leaves mean(g) and mean(g n) in means[0] and means[1].
template <typename T>
void reduce_row(int64_t columns, const Row<T>& row, const T* weight, T* weight_sum, T* bias_sum, double* means) {
  Vec<T> sums[4] = {}, products[4] = {};
  for_vectors<T>(columns, [&](int64_t i, int count, int k) XL_INLINE {
    // Zero in the lanes beyond the row, and so is all that is added up below.
    const Vec<T> dy = load_lanes(row.y_gradient + i, count);
    const Vec<T> n = (load_lanes(row.s + i, count) - row.mean) * row.rstd;
    const Vec<T> g = dy * load_lanes(weight + i, count);
    sums[k] += g;
    products[k] += g * n;
    store_lanes(weight_sum + i, load_lanes<T>(weight_sum + i, count) + dy * n, count);
    store_lanes(bias_sum + i, load_lanes<T>(bias_sum + i, count) + dy, count);
  });
  means[0] = total<T>(sums) / static_cast<double>(columns);
  means[1] = total<T>(products) / static_cast<double>(columns);
}

template <typename T, bool kDropped>
void write_row(int64_t columns, const Row<T>& row, const T* weight, const double* means, const DropoutMask& mask,
               const uint16_t* lanes, T* x_gradient, T* residual_gradient) {
  const T mean_g = static_cast<T>(means[0]);
  const T mean_gn = static_cast<T>(means[1]);
  const T scale = static_cast<T>(mask.scale);
  for_vectors<T>(columns, [&](int64_t i, int count, int) XL_INLINE {
    const Vec<T> n = (load_lanes(row.s + i, count) - row.mean) * row.rstd;
    const Vec<T> g = load_lanes(row.y_gradient + i, count) * load_lanes(weight + i, count);
    Vec<T> ds = (g - mean_g - n * mean_gn) * row.rstd;
    if (residual_gradient != nullptr) store_lanes(residual_gradient + i, ds, count);
    if constexpr (kDropped) ds = dropped<T>(ds, lanes + i, mask.threshold, scale);
    if (x_gradient != nullptr) store_lanes(x_gradient + i, ds, count);
  });
}

template <typename T, bool kDropped>
void gradient_rows(Context& context, const LayerNormGradientParams& params, const DropoutMask& mask, int64_t task_rows,
                   T* partial) {
  const int64_t columns = params.columns;
  const T* weight = static_cast<const T*>(params.weight);
  const int64_t lane_count = kDropped ? columns + kDropoutPadding : 0;
  uint16_t* lane_buffers = context.workspace.allocate<uint16_t>(lane_count * context.pool.threads());
  parallel_blocks(context, params.rows, task_rows, [&](int64_t begin, int64_t end, int worker) {
    T* weight_sum = partial + begin / task_rows * 2 * columns;
    T* bias_sum = weight_sum + columns;
    for (int64_t i = 0; i < 2 * columns; ++i) weight_sum[i] = 0;
    for (int64_t r = begin; r < end; ++r) {
      const int64_t start = r * columns;
      const Row<T> row = {static_cast<const T*>(params.sum) + start, static_cast<const T*>(params.y_gradient) + start,
                          static_cast<const T*>(params.mean)[r], static_cast<const T*>(params.rstd)[r]};
      double means[2];
      reduce_row<T>(columns, row, weight, weight_sum, bias_sum, means);
      const uint16_t* lanes = nullptr;
      if constexpr (kDropped) lanes = dropout_lanes(mask.stream, start, columns, lane_buffers + worker * lane_count);
      write_row<T, kDropped>(
          columns, row, weight, means, mask, lanes,
          params.x_gradient != nullptr ? static_cast<T*>(params.x_gradient) + start : nullptr,
          params.residual_gradient != nullptr ? static_cast<T*>(params.residual_gradient) + start : nullptr);
    }
  });
}

// out[columns] = sum over tasks of partial[task][columns], the tasks `stride` elements apart
template <typename T>
void add_tasks(int64_t tasks, int64_t stride, int64_t begin, int64_t end, const T* partial, T* out) {
  for_vectors<T>(end - begin, [&](int64_t i, int count, int) XL_INLINE {
    Vec<T> sum = {};
    for (int64_t task = 0; task < tasks; ++task) sum += load_lanes(partial + task * stride + begin + i, count);
    store_lanes(out + begin + i, sum, count);
  });
}

}  // namespace

template <typename T>
static Status run_layer_norm_gradient(Context& context, const LayerNormGradientParams& params) {
  const int64_t columns = params.columns;
  if (columns <= 0) return ok_status();
  const int64_t even_share = divide_up(params.rows, kMostTasks);
  const int64_t task_rows = even_share > kLeastRows ? even_share : kLeastRows;
  const int64_t tasks = divide_up(params.rows, task_rows);
  T* partial = context.workspace.allocate<T>(tasks * 2 * columns);
  const DropoutMask mask = dropout_mask(params.dropout, params.seed, params.offset);
  if (mask.threshold > 0) {
    gradient_rows<T, true>(context, params, mask, task_rows, partial);
  } else {
    gradient_rows<T, false>(context, params, mask, task_rows, partial);
  }
  constexpr int64_t kColumnBlock = 256;
  parallel_blocks(context, columns, kColumnBlock, [&](int64_t begin, int64_t end, int) {
    add_tasks(tasks, 2 * columns, begin, end, partial, static_cast<T*>(params.weight_gradient));
    add_tasks(tasks, 2 * columns, begin, end, partial + columns, static_cast<T*>(params.bias_gradient));
  });
  return ok_status();
}

XL_FLOATING_KERNEL(layer_norm_gradient, LayerNormGradientParams, run_layer_norm_gradient)

XL_KERNELS_END
