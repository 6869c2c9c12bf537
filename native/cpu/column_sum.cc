// out[columns] (+)= sum over rows of x: the gradient of a bias.
#include "cpu/elementwise.h"

XL_KERNELS_BEGIN

// A task sums the rows of one strip of columns, block by block: the blocks' sums are added in order, so that a sum over
// many rows loses less to rounding than one long chain would.
constexpr int64_t kSumRows = 128;

template <typename T>
constexpr int64_t kStripColumns = 8 * kLanes<T>;

// sums[columns] += the sum over rows of x, columns <= kStripColumns.
template <typename T>
static void add_rows(const T* x, int64_t stride, int64_t rows, int64_t columns, T* sums) {
  constexpr int lanes = kLanes<T>;
  if (columns == kStripColumns<T>) {
    Vec<T> totals[8] = {};
    for (int64_t i = 0; i < rows; ++i) {
#pragma GCC unroll 8
      for (int v = 0; v < 8; ++v) totals[v] += load(x + i * stride + v * lanes);
    }
    for (int v = 0; v < 8; ++v) store(sums + v * lanes, load(sums + v * lanes) + totals[v]);
    return;
  }
  int64_t j = 0;
  for (; j + lanes <= columns; j += lanes) {
    Vec<T> total = {};
    for (int64_t i = 0; i < rows; ++i) total += load(x + i * stride + j);
    store(sums + j, load(sums + j) + total);
  }
  for (; j < columns; ++j) {
    T total = 0;
    for (int64_t i = 0; i < rows; ++i) total += x[i * stride + j];
    sums[j] += total;
  }
}

template <typename T>
static Status run_column_sum(Context& context, const ColumnSumParams& params) {
  const T* x = static_cast<const T*>(params.x);
  T* out = static_cast<T*>(params.out);
  parallel_blocks(context, params.columns, kStripColumns<T>, [&](int64_t begin, int64_t end, int) {
    T sums[kStripColumns<T>] = {};
    for (int64_t row = 0; row < params.rows; row += kSumRows) {
      add_rows<T>(x + row * params.x_stride + begin, params.x_stride, at_most(params.rows - row, kSumRows), end - begin,
                  sums);
    }
    for (int64_t j = begin; j < end; ++j) out[j] = params.accumulate ? out[j] + sums[j - begin] : sums[j - begin];
  });
  return ok_status();
}

XL_FLOATING_KERNEL(column_sum, ColumnSumParams, run_column_sum)

XL_KERNELS_END
