// Rows of a table by id, and the gradient of the table.
#include "cpu/elementwise.h"

XL_KERNELS_BEGIN

namespace {

// The first position whose id is not in the table, or -1.
int64_t first_outside(const int32_t* ids, int64_t count, int64_t first_id, int64_t table_rows) {
  for (int64_t n = 0; n < count; ++n) {
    if (ids[n] < first_id || ids[n] >= first_id + table_rows) return n;
  }
  return -1;
}

Status outside_error(const char* name, const int32_t* ids, int64_t position, int64_t first_id, int64_t table_rows) {
  return make_status(StatusCode::out_of_range, "%s: id %d at position %lld is outside the table's ids [%lld, %lld)",
                     name, ids[position], static_cast<long long>(position), static_cast<long long>(first_id),
                     static_cast<long long>(first_id + table_rows));
}

}  // namespace

template <typename T>
static Status run_embedding(Context& context, const EmbeddingParams& params) {
  const int64_t columns = params.columns;
  const int32_t* ids = params.ids;
  if (params.partial == 0) {
    const int64_t position = first_outside(ids, params.count, params.first_id, params.table_rows);
    if (position >= 0) return outside_error("embedding", ids, position, params.first_id, params.table_rows);
  }
  const T* table = static_cast<const T*>(params.table);
  T* out = static_cast<T*>(params.out);
  const T scale = static_cast<T>(params.scale);
  const bool accumulate = params.accumulate != 0;
  parallel_blocks(context, params.count, rows_per_task(columns), [&](int64_t begin, int64_t end, int) {
    for (int64_t n = begin; n < end; ++n) {
      T* target = out + n * columns;
      const int64_t row = ids[n] - params.first_id;
      if (row < 0 || row >= params.table_rows) {
        if (!accumulate) {
          for (int64_t i = 0; i < columns; ++i) target[i] = 0;
        }
        continue;
      }
      const T* source = table + row * columns;
      if (accumulate) {
        transform_range<T>(0, columns, [=](Vec<T> held, Vec<T> v) { return held + v * scale; }, target, target, source);
      } else {
        transform_range<T>(0, columns, [=](Vec<T> v) { return v * scale; }, target, source);
      }
    }
  });
  return ok_status();
}

namespace {

// The positions of every table row, by a counting sort, which keeps the order of positions: those of row r are
// order[starts[r] .. starts[r + 1]).
struct Occurrences {
  int64_t* starts;
  int64_t* order;
};

Occurrences sort_ids(Context& context, const EmbeddingGradientParams& params) {
  const int64_t rows = params.table_rows;
  // Counting in the cell after next leaves, once positions are handed out, every row's start in its own cell.
  int64_t* cells = context.workspace.allocate<int64_t>(rows + 2);
  int64_t* order = context.workspace.allocate<int64_t>(params.count);
  for (int64_t r = 0; r < rows + 2; ++r) cells[r] = 0;
  const auto row_of = [&](int64_t n) { return params.ids[n] - params.first_id; };
  for (int64_t n = 0; n < params.count; ++n) {
    const int64_t row = row_of(n);
    if (row >= 0 && row < rows) ++cells[row + 2];
  }
  for (int64_t r = 2; r < rows + 2; ++r) cells[r] += cells[r - 1];
  for (int64_t n = 0; n < params.count; ++n) {
    const int64_t row = row_of(n);
    if (row >= 0 && row < rows) order[cells[row + 1]++] = n;
  }
  return {cells, order};
}

// out (+)= scale * sum of the rows of `gradient` that `order` names. Sums stay in registers: columns outside, positions
// inside.
template <typename T>
void add_rows(const T* gradient, int64_t columns, const int64_t* order, int64_t count, T scale, bool accumulate,
              T* out) {
  for (int64_t column = 0; column < columns; column += 4 * kLanes<T>) {
    const int64_t width = at_most(columns - column, 4 * kLanes<T>);
    Vec<T> sums[4] = {};
    for (int64_t k = 0; k < count; ++k) {
      const T* row = gradient + order[k] * columns + column;
      if (width == 4 * kLanes<T>) {
        for (int v = 0; v < 4; ++v) sums[v] += load<T>(row + v * kLanes<T>);
      } else {
        for (int v = 0; v * kLanes<T> < width; ++v) {
          const int lanes = static_cast<int>(at_most(width - v * kLanes<T>, kLanes<T>));
          sums[v] += load_lanes<T>(row + v * kLanes<T>, lanes);
        }
      }
    }
    for (int v = 0; v * kLanes<T> < width; ++v) {
      const int lanes = static_cast<int>(at_most(width - v * kLanes<T>, kLanes<T>));
      T* target = out + column + v * kLanes<T>;
      const Vec<T> held = accumulate ? load_lanes<T>(target, lanes) : Vec<T>{};
      store_lanes<T>(target, held + sums[v] * scale, lanes);
    }
  }
}

}  // namespace

template <typename T>
static Status run_embedding_gradient(Context& context, const EmbeddingGradientParams& params) {
  const int64_t columns = params.columns;
  if (params.partial == 0) {
    const int64_t position = first_outside(params.ids, params.count, params.first_id, params.table_rows);
    if (position >= 0)
      return outside_error("embedding_gradient", params.ids, position, params.first_id, params.table_rows);
  }
  const Occurrences occurrences = sort_ids(context, params);
  const T* gradient = static_cast<const T*>(params.out_gradient);
  T* table = static_cast<T*>(params.table_gradient);
  const T scale = static_cast<T>(params.scale);
  const bool accumulate = params.accumulate != 0;
  parallel_blocks(context, params.table_rows, rows_per_task(columns), [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t start = occurrences.starts[row];
      const int64_t count = occurrences.starts[row + 1] - start;
      if (count == 0 && accumulate) continue;
      add_rows<T>(gradient, columns, occurrences.order + start, count, scale, accumulate, table + row * columns);
    }
  });
  return ok_status();
}

XL_FLOATING_KERNEL(embedding, EmbeddingParams, run_embedding)
XL_FLOATING_KERNEL(embedding_gradient, EmbeddingGradientParams, run_embedding_gradient)

XL_KERNELS_END
