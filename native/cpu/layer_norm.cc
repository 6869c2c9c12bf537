// Dropout, residual sum and layer normalisation in one pass over memory.
//
// Statistics by the corrected two-pass algorithm (Chan, Golub & LeVeque 1983): deviations from a first mean are exact
// or nearly so; their own mean, tiny, corrects both the mean and the variance. Rows far from zero keep full precision.
#include "cpu/elementwise.h"
#include "cpu/philox_vec.h"

XL_KERNELS_BEGIN

template <typename T>
struct RowStatistics {
  T center;  // the first mean
  T shift;   // mean - center
  double rstd;
};

// s = dropout(x) + residual; returns the mean.
template <typename T, bool kDropped>
static double sum_row(int64_t columns, const T* x, const T* residual, const DropoutMask& mask, const uint16_t* lanes,
                      T* s) {
  const T scale = static_cast<T>(mask.scale);
  Vec<T> sums[4] = {};
  for_vectors<T>(columns, [&](int64_t i, int count, int k) XL_INLINE {
    Vec<T> v = load_lanes(x + i, count);
    if constexpr (kDropped) v = dropped<T>(v, lanes + i, mask.threshold, scale);
    if (residual != nullptr) v += load_lanes(residual + i, count);
    store_lanes(s + i, v, count);
    sums[k] += v;
  });
  return total<T>(sums) / static_cast<double>(columns);
}

template <typename T>
static RowStatistics<T> row_statistics(int64_t columns, const T* s, double first_mean, double epsilon) {
  const T center = static_cast<T>(first_mean);
  Vec<T> sums[4] = {}, squares[4] = {};
  for_vectors<T>(columns, [&](int64_t i, int count, int k) XL_INLINE {
    const Vec<T> deviation = first_lanes<T>(load_lanes(s + i, count) - center, count);
    sums[k] += deviation;
    squares[k] += deviation * deviation;
  });
  const double shift = total<T>(sums) / static_cast<double>(columns);
  const double variance = total<T>(squares) / static_cast<double>(columns) - shift * shift;
  return {center, static_cast<T>(shift), 1 / std::sqrt((variance < 0 ? 0 : variance) + epsilon)};
}

template <typename T, bool kDropped>
static void layer_norm_rows(Context& context, const LayerNormParams& params, const DropoutMask& mask) {
  const int64_t columns = params.columns;
  const T* weight = static_cast<const T*>(params.weight);
  const T* bias = static_cast<const T*>(params.bias);
  const int64_t lane_count = kDropped ? columns + kDropoutPadding : 0;
  uint16_t* lane_buffers = context.workspace.allocate<uint16_t>(lane_count * context.pool.threads());
  parallel_blocks(context, params.rows, rows_per_task(columns), [&](int64_t begin, int64_t end, int worker) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t start = row * columns;
      const T* x = static_cast<const T*>(params.x) + start;
      const T* residual = params.residual != nullptr ? static_cast<const T*>(params.residual) + start : nullptr;
      T* y = static_cast<T*>(params.y) + start;
      T* s = params.sum != nullptr ? static_cast<T*>(params.sum) + start : y;  // y is as good as any scratch memory
      const uint16_t* lanes = nullptr;
      if constexpr (kDropped) lanes = dropout_lanes(mask.stream, start, columns, lane_buffers + worker * lane_count);

      const double first_mean = sum_row<T, kDropped>(columns, x, residual, mask, lanes, s);
      const RowStatistics<T> statistics = row_statistics<T>(columns, s, first_mean, params.epsilon);
      const T center = statistics.center;
      const T shift = statistics.shift;
      const T rstd = static_cast<T>(statistics.rstd);
      for_vectors<T>(columns, [&](int64_t i, int count, int) XL_INLINE {
        const Vec<T> normal = (load_lanes<T>(s + i, count) - center - shift) * rstd;
        store_lanes(y + i, normal * load_lanes(weight + i, count) + load_lanes(bias + i, count), count);
      });
      if (params.mean != nullptr) {
        static_cast<T*>(params.mean)[row] = static_cast<T>(static_cast<double>(center) + static_cast<double>(shift));
      }
      if (params.rstd != nullptr) static_cast<T*>(params.rstd)[row] = rstd;
    }
  });
}

template <typename T>
static Status run_layer_norm(Context& context, const LayerNormParams& params) {
  if (params.rows <= 0 || params.columns <= 0) return ok_status();
  const DropoutMask mask = dropout_mask(params.dropout, params.seed, params.offset);
  if (mask.threshold > 0) {
    layer_norm_rows<T, true>(context, params, mask);
  } else {
    layer_norm_rows<T, false>(context, params, mask);
  }
  return ok_status();
}

XL_FLOATING_KERNEL(layer_norm, LayerNormParams, run_layer_norm)

XL_KERNELS_END
