// Softmax of rows and their largest probabilities, by a heap-free selection: k is small, a beam's width.
#include "cpu/elementwise.h"

XL_KERNELS_BEGIN

namespace {

// Whether column a ranks before column b: by value, of equals the lower column; NaN last.
template <typename T>
bool ranks_before(const T* row, int64_t a, int64_t b) {
  if (row[a] != row[b]) return row[a] > row[b] || (row[b] != row[b] && row[a] == row[a]);
  return a < b;
}

template <typename T>
void select_row(const T* row, int64_t columns, int64_t k, int32_t* best) {
  int64_t kept = 0;
  for (int64_t column = 0; column < columns; ++column) {
    if (kept == k && !ranks_before(row, column, best[k - 1])) continue;
    int64_t place = kept < k ? kept++ : k - 1;
    for (; place > 0 && ranks_before(row, column, best[place - 1]); --place) best[place] = best[place - 1];
    best[place] = static_cast<int32_t>(column);
  }
}

}  // namespace

template <typename T>
static Status run_top_probabilities(Context& context, const TopProbabilitiesParams& params) {
  const int64_t columns = params.columns;
  context.pool.parallel_for(params.rows, [&](int64_t n, int) {
    const T* const row = static_cast<const T*>(params.scores) + n * columns;
    T* const all = static_cast<T*>(params.probabilities) + n * columns;
    double top = -__builtin_inf();
    for (int64_t i = 0; i < columns; ++i) top = static_cast<double>(row[i]) > top ? static_cast<double>(row[i]) : top;
    double sum = 0;
    for (int64_t i = 0; i < columns; ++i) sum += std::exp(static_cast<double>(row[i]) - top);
    for (int64_t i = 0; i < columns; ++i) all[i] = static_cast<T>(std::exp(static_cast<double>(row[i]) - top) / sum);
    int32_t* const best = params.indices + n * params.k;
    select_row(row, columns, params.k, best);
    for (int64_t i = 0; i < params.k; ++i) static_cast<T*>(params.top)[n * params.k + i] = all[best[i]];
  });
  return ok_status();
}

XL_FLOATING_KERNEL(top_probabilities, TopProbabilitiesParams, run_top_probabilities)

XL_KERNELS_END
