// c (+)= activation(op(a) op(b) + bias) + residual, after Goto & van de Geijn, "Anatomy of high-performance matrix
// multiplication" (2008): packed panels, a register tile (gemm_micro_kernel.h), blocks that stay in the cache.
//
// A task computes a tile of c over all of the inner dimension; its sums stay in scratch memory until the epilogue.
// Tasks pack the panels they need, into the cache of the core that reads them, unless so many tasks need the same ones
// that packing them once for all is cheaper. While a block is multiplied the next one is prefetched.
#include "cpu/elementwise.h"
#include "cpu/gemm_blocking.h"
#include "cpu/gemm_dot.h"
#include "cpu/gemm_epilogue.h"
#include "cpu/gemm_micro_kernel.h"
#include "cpu/gemm_pack.h"
#include "cpu/gemm_prefetch.h"

XL_KERNELS_BEGIN

// x W^T with at most this many rows takes the dot form: packing W would cost more than the dot form's extra loads.
constexpr int64_t kDotProductRows = 8;

// From these sizes on so many tiles would pack the same rows of A (columns of B) that they share one packed form.
constexpr int64_t kSharedRows = 1024, kSharedColumns = 512;

// Multiply-adds below which a loop is not worth sharing out: a few microseconds of work.
constexpr int64_t kSerialWork = 1 << 17;

static inline int useful_threads(const Context& context, const MatrixProductParams& params) {
  const double work =
      static_cast<double>(params.rows) * static_cast<double>(params.columns) * static_cast<double>(params.inner);
  return work < static_cast<double>(kSerialWork) ? 1 : context.pool.threads();
}

template <typename T>
static Status multiply_few_rows(Context& context, const MatrixProductParams& params) {
  const Epilogue<T> epilogue = Epilogue<T>::of(params);
  const T* x = static_cast<const T*>(params.a);
  const T* w = static_cast<const T*>(params.b);
  // A task streams about 128 KiB of W.
  constexpr int64_t kTaskElements = 131072 / static_cast<int64_t>(sizeof(T));
  const int64_t fitting = useful_threads(context, params) > 1 ? kTaskElements / (params.inner + 1) : params.columns;
  const int64_t task_columns = divide_up(at_most(fitting + 1, params.columns), kDotColumns) * kDotColumns;
  const int64_t scratch = params.rows * task_columns;
  T* tiles = context.workspace.allocate<T>(scratch * context.pool.threads());
  context.pool.parallel_for(divide_up(params.columns, task_columns), [&](int64_t task, int worker) {
    const int64_t column = task * task_columns;
    const int64_t columns = at_most(params.columns - column, task_columns);
    T* tile = tiles + worker * scratch;
    dot_products<T>(params.rows, columns, params.inner, x, params.a_stride, w + column * params.b_stride,
                    params.b_stride, tile, task_columns);
    finish_tile<T>(epilogue, tile, task_columns, 0, params.rows, column, columns);
  });
  return ok_status();
}

// One operand: rows of op(A), or columns of op(B), in memory and in panels.
template <typename T>
struct Operand {
  const T* x;
  int64_t stride;
  bool along;            // the steps of a row are neighbours in memory
  int64_t size;          // rows of op(A), columns of op(B)
  int panel;             // of which so many make a panel
  int width;             // elements a step of a panel takes
  const T* packed;       // all panels with all steps; null: the tasks pack what they need
  int64_t panel_stride;  // of packed

  static int64_t stride_of(int64_t steps, int width) {
    return divide_up(steps * width + kPanelSlack<T>, kLanes<T>) * kLanes<T>;
  }

  // Packs `count` panels from the one of row `first` on, steps [step, step + steps).
  void pack(int64_t first, int64_t count, int64_t step, int64_t steps, T* panels, int64_t stride_out) const {
    for (int64_t n = 0; n < count; ++n) {
      const int64_t start = first + n * panel;
      const int64_t rest = size - start;
      const int valid = static_cast<int>(at_most(rest, panel));
      if (along) {
        pack_along<T>(x + start * stride + step, stride, valid, width, steps, panels + n * stride_out);
      } else {
        pack_across<T>(x + step * stride + start, stride, valid, width, rest, steps, panels + n * stride_out);
      }
    }
  }

  // The part that starts at row `first`.
  Operand part(int64_t first, int64_t rows) const {
    Operand result = *this;
    result.x = x + first * (along ? stride : 1);
    result.size = rows;
    return result;
  }

  PrefetchWalk prefetch(int64_t first, int64_t rows, int64_t step, int64_t steps) const {
    if (packed)
      return PrefetchWalk::packed(packed + first / panel * panel_stride + step * width, panel_stride,
                                  divide_up(rows, panel), steps * width);
    if (along) return PrefetchWalk::matrix(x + first * stride + step, stride, rows, steps);
    return PrefetchWalk::matrix(x + step * stride + first, stride, steps, rows);
  }
};

// The product of a and b, tile by tile; (first_row, first_column) is the epilogue's position of its first element.
template <typename T>
static void multiply_tiles(Context& context, const Operand<T>& a, const Operand<T>& b, int64_t inner,
                           int64_t inner_block, int threads, const Epilogue<T>& epilogue, int64_t first_row,
                           int64_t first_column) {
  const Tiles tiles = choose_tiles<T>(a.size, b.size, a.panel, !a.packed, !b.packed, threads);
  // Per worker: its own panels, where it packs, and the sums of its tile.
  const int64_t a_stride = a.packed ? a.panel_stride : Operand<T>::stride_of(inner_block, a.width);
  const int64_t b_stride = b.packed ? b.panel_stride : inner_block * b.width;
  const int64_t a_size = a.packed ? 0 : tiles.rows / a.panel * a_stride;
  const int64_t b_size = b.packed ? 0 : tiles.columns / b.panel * b_stride;
  const int64_t scratch = a_size + b_size + tiles.rows * tiles.columns;
  T* memory = context.workspace.allocate<T>(scratch * context.pool.threads());

  const int64_t row_tiles = divide_up(a.size, tiles.rows), column_tiles = divide_up(b.size, tiles.columns);
  const int64_t prefetch_steps = prefetch_interval(a.panel);
  // Neighbouring tasks share columns of B, in a linear layer the larger operand.
  const auto row_of = [&](int64_t task) { return task % row_tiles * tiles.rows; };
  const auto column_of = [&](int64_t task) { return task / row_tiles * tiles.columns; };
  context.pool.parallel_for(row_tiles * column_tiles, [&](int64_t task, int worker) {
    const int64_t row = row_of(task), column = column_of(task);
    const int64_t rows = at_most(a.size - row, tiles.rows), columns = at_most(b.size - column, tiles.columns);
    const int64_t row_panels = divide_up(rows, a.panel), column_panels = divide_up(columns, b.panel);
    T* a_own = memory + worker * scratch;
    T* b_own = a_own + a_size;
    T* sums = b_own + b_size;

    int64_t step = 0;
    do {
      const int64_t steps = at_most(inner - step, inner_block);
      const int64_t next = step + steps;
      if (!a.packed) a.pack(row, row_panels, step, steps, a_own, a_stride);
      if (!b.packed) b.pack(column, column_panels, step, steps, b_own, b_stride);
      const T* a_panels = a.packed ? a.packed + row / a.panel * a_stride + step * a.width : a_own;
      const T* b_panels = b.packed ? b.packed + column / b.panel * b_stride + step * b.width : b_own;
      PrefetchWalk next_a, next_b;
      const int64_t next_task =
          next < inner ? task : task + threads;  // a guess, right as long as the workers keep pace
      if (next_task < row_tiles * column_tiles) {
        const int64_t next_step = next < inner ? next : 0;
        const int64_t next_steps = at_most(inner - next_step, inner_block);
        const int64_t next_row = row_of(next_task), next_column = column_of(next_task);
        next_a = a.prefetch(next_row, at_most(a.size - next_row, tiles.rows), next_step, next_steps);
        if (!b.packed)
          next_b = b.prefetch(next_column, at_most(b.size - next_column, tiles.columns), next_step, next_steps);
      }
      for (int64_t j = 0; j < column_panels; ++j) {
        const int64_t tile_column = j * b.panel;
        const int64_t tile_columns = at_most(columns - tile_column, b.panel);
        const T* b_panel = b_panels + j * b_stride;
        const TileKernel<T> multiply =
            select_tile_kernel<T>(a.panel, static_cast<int>(divide_up(tile_columns, kLanes<T>)));
        if (b.packed && j + 1 < column_panels) next_b = PrefetchWalk::packed(b_panel + b_stride, 0, 1, steps * b.width);
        for (int64_t i = 0; i < row_panels; ++i) {
          T* tile = sums + i * a.panel * tiles.columns + tile_column;
          const int64_t tile_row = i * a.panel;
          const int64_t tile_rows = at_most(rows - tile_row, a.panel);
          if (next == inner)
            prefetch_tile(epilogue, first_row + row + tile_row, tile_rows, first_column + column + tile_column,
                          tile_columns);
          const PrefetchLines lines = !next_b.done()   ? next_b.take(steps / prefetch_steps)
                                      : !next_a.done() ? next_a.take(steps / prefetch_steps)
                                                       : PrefetchLines{reinterpret_cast<const char*>(b_panel), 0};
          multiply(steps, a_panels + i * a_stride, a.width, b_panel, tile, tiles.columns, step > 0, lines);
          if (next == inner) {
            finish_tile<T>(epilogue, tile, tiles.columns, first_row + row + tile_row, tile_rows,
                           first_column + column + tile_column, tile_columns);
          }
        }
      }
      step = next;
    } while (step < inner);
  });
}

// Rows of equal chunks of at most `limit` panels each.
static inline int64_t chunk_of(int64_t size, int panel, int64_t limit) {
  const int64_t panels = divide_up(size, panel);
  const int64_t chunks = divide_up(panels, limit > 1 ? limit : 1);
  return divide_up(panels, chunks) * panel;
}

// Packs operands in parallel, panel by panel.
template <typename T>
static void pack_operand(Context& context, const Operand<T>& operand, int64_t inner, T* packed) {
  context.pool.parallel_for(divide_up(operand.size, operand.panel), [&](int64_t panel, int) {
    operand.pack(panel * operand.panel, 1, 0, inner, packed + panel * operand.panel_stride, operand.panel_stride);
  });
}

template <typename T>
static Status multiply(Context& context, const MatrixProductParams& params) {
  const int64_t rows = params.rows, columns = params.columns, inner = params.inner;
  const Epilogue<T> epilogue = Epilogue<T>::of(params);
  const int threads = useful_threads(context, params);
  const Panels panels = choose_panels<T>(rows, inner, params.packed_b != 0);
  constexpr int panel_columns = kTileColumns<T>;
  const Operand<T> a = {static_cast<const T*>(params.a),
                        params.a_stride,
                        !params.transpose_a,
                        rows,
                        panels.rows,
                        panels.width,
                        nullptr,
                        Operand<T>::stride_of(inner, panels.width)};
  Operand<T> b = {static_cast<const T*>(params.b),
                  params.b_stride,
                  params.transpose_b != 0,
                  columns,
                  panel_columns,
                  panel_columns,
                  nullptr,
                  inner * panel_columns};
  if (params.packed_b) b.packed = b.x;

  // Where many tiles would pack the same panels these are packed once before, as many at a time as scratch memory is
  // granted.
  const bool share_a = columns >= kSharedColumns, share_b = !b.packed && rows >= kSharedRows;
  const int64_t limit = kSharedBytes / static_cast<int64_t>(sizeof(T));
  const int64_t row_chunk = share_a ? chunk_of(rows, panels.rows, limit / a.panel_stride) : rows;
  const int64_t column_chunk = share_b ? chunk_of(columns, panel_columns, limit / b.panel_stride) : columns;
  T* packed_a = share_a ? context.workspace.allocate<T>(divide_up(row_chunk, panels.rows) * a.panel_stride) : nullptr;
  T* packed_b =
      share_b ? context.workspace.allocate<T>(divide_up(column_chunk, panel_columns) * b.panel_stride) : nullptr;
  for (int64_t column = 0; column < columns; column += column_chunk) {
    Operand<T> b_part = b;
    if (share_b) {
      b_part = b.part(column, at_most(columns - column, column_chunk));
      pack_operand(context, b_part, inner, packed_b);
      b_part.packed = packed_b;
    }
    for (int64_t row = 0; row < rows; row += row_chunk) {
      Operand<T> a_part = a;
      if (share_a) {
        a_part = a.part(row, at_most(rows - row, row_chunk));
        if (column == 0 || row_chunk < rows) pack_operand(context, a_part, inner, packed_a);
        a_part.packed = packed_a;
      }
      const Workspace::Mark mark = context.workspace.mark();
      multiply_tiles(context, a_part, b_part, inner, panels.inner, threads, epilogue, row, column);
      context.workspace.release(mark);
    }
  }
  return ok_status();
}

template <typename T>
static Status run_matrix_product(Context& context, const MatrixProductParams& params) {
  if (params.rows <= 0 || params.columns <= 0) return ok_status();
  const bool dot_form = params.transpose_b && !params.packed_b && !params.transpose_a && params.rows <= kDotProductRows;
  return dot_form ? multiply_few_rows<T>(context, params) : multiply<T>(context, params);
}

template <typename T>
static Status run_pack_matrix(Context& context, const PackMatrixParams& params) {
  constexpr int panel_columns = kTileColumns<T>;
  const Operand<T> b = {static_cast<const T*>(params.b),
                        params.b_stride,
                        params.transpose_b != 0,
                        params.columns,
                        panel_columns,
                        panel_columns,
                        nullptr,
                        params.inner * panel_columns};
  pack_operand(context, b, params.inner, static_cast<T*>(params.packed));
  return ok_status();
}

XL_FLOATING_KERNEL(matrix_product, MatrixProductParams, run_matrix_product)
XL_FLOATING_KERNEL(pack_matrix, PackMatrixParams, run_pack_matrix)

int64_t packed_matrix_elements(DType dtype, int64_t columns, int64_t inner) {
  switch (dtype) {
    case DType::f32: return divide_up(columns, kTileColumns<float>) * kTileColumns<float> * inner;
    case DType::f64: return divide_up(columns, kTileColumns<double>) * kTileColumns<double> * inner;
    default: return 0;
  }
}

XL_KERNELS_END
