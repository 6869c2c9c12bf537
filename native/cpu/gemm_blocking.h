// How matrix_product cuts its work. Two decisions are kept apart:
//
// - Panels and inner blocks depend on the shape alone. They fix the order in which every element of C is summed.
// - Tiles, the tasks of the parallel loop, are groups of whole panels. How many panels make a tile depends on the
// number of threads
//   too, which changes who computes an element but not its sum: results are the same bits for any number of threads.
#pragma once

#include "cpu/elementwise.h"
#include "cpu/gemm_micro_kernel.h"

XL_KERNELS_BEGIN

#if defined(__AVX512F__)
constexpr int64_t kTileElements = 96 * 1024;  // cores with AVX-512 have 1 to 2 MiB of second-level cache
#else
constexpr int64_t kTileElements = 48 * 1024;  // 512 KiB, or a large shared third level
#endif
constexpr int64_t kTileSide = 384;

// Steps of one inner block: a panel of B, kInnerSteps * kTileColumns elements, shares the first-level cache with a
// panel of A.
constexpr int64_t kInnerSteps = 288;

// Bytes of an operand packed at a time when all tasks share it.
constexpr int64_t kSharedBytes = 8 << 20;

struct Panels {
  int rows;       // rows of a panel of A; a panel of B has kTileColumns columns
  int width;      // elements that a step of a panel of A takes
  int64_t inner;  // steps of an inner block
};

template <typename T>
static Panels choose_panels(int64_t rows, int64_t inner, bool packed_b) {
  Panels panels = {};
  // Equal panels: 64 rows are 4 panels of 13 and one of 12, not four of 14 and one of 8.
  panels.rows = static_cast<int>(divide_up(rows, divide_up(rows, kTileRows)));
  // Whole vectors are packed fastest, unless most of them would be padding.
  const int vectors = (panels.rows + kLanes<T> - 1) / kLanes<T>;
  panels.width = 2 * panels.rows > vectors * kLanes<T> ? vectors * kLanes<T> : panels.rows;
  // With few rows every element of B is used once: then it is best read as one long stream.
  const int64_t steps = rows <= kTileRows && packed_b ? 4 * kInnerSteps : kInnerSteps;
  panels.inner = inner > steps ? divide_up(divide_up(inner, divide_up(inner, steps)), 16) * 16 : inner;
  return panels;
}

struct Tiles {
  int64_t rows;     // multiple of Panels::rows
  int64_t columns;  // multiple of kTileColumns
};

// The split with the least estimated time: rounds of the thread pool times the cost of a tile, in multiply-adds per
// step. Packing an element costs about as much as kLanes multiply-adds.
template <typename T>
static Tiles choose_tiles(int64_t rows, int64_t columns, int panel_rows, bool packs_a, bool packs_b, int threads) {
  constexpr int64_t panel_columns = kTileColumns<T>;
  constexpr int64_t limit = kTileElements * static_cast<int64_t>(sizeof(float)) / static_cast<int64_t>(sizeof(T));
  constexpr int64_t side = kTileSide * static_cast<int64_t>(sizeof(float)) / static_cast<int64_t>(sizeof(T));
  constexpr int64_t kTries = 16;
  const int64_t row_panels = divide_up(rows, panel_rows), column_panels = divide_up(columns, panel_columns);
  const int64_t least_row_parts = divide_up(rows, side), least_column_parts = divide_up(columns, side);
  Tiles best = {panel_rows, panel_columns};
  double best_time = -1;
  for (int64_t i = least_row_parts; i <= row_panels && i < least_row_parts + kTries; ++i) {
    const int64_t tile_rows = divide_up(row_panels, i) * panel_rows;
    for (int64_t j = least_column_parts; j <= column_panels && j < least_column_parts + kTries; ++j) {
      const int64_t tile_columns = divide_up(column_panels, j) * panel_columns;
      if (tile_rows * tile_columns > limit) continue;
      const int64_t tiles = divide_up(rows, tile_rows) * divide_up(columns, tile_columns);
      const int64_t cost =
          tile_rows * tile_columns + (packs_a ? kLanes<T> * tile_rows : 0) + (packs_b ? kLanes<T> * tile_columns : 0);
      const double time = static_cast<double>(divide_up(tiles, threads)) * static_cast<double>(cost);
      if (best_time < 0 || time < best_time) {
        best_time = time;
        best = {tile_rows, tile_columns};
      }
    }
  }
  return best;
}

XL_KERNELS_END
