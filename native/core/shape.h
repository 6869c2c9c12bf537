// Sizes that cannot overflow: every product and sum of sizes that came from outside goes through here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>

namespace xlformers {

// The largest size accepted: what a JavaScript number holds exactly, far below any wrap-around of int64_t.
constexpr int64_t kMaxElements = int64_t{1} << 53;

// False when a factor is negative or the product exceeds kMaxElements.
inline bool checked_multiply(int64_t a, int64_t b, int64_t* product) {
  if (a < 0 || b < 0) return false;
  if (a != 0 && b > kMaxElements / a) return false;
  *product = a * b;
  return true;
}

inline bool checked_add(int64_t a, int64_t b, int64_t* sum) {
  if (a < 0 || b < 0 || a > kMaxElements - b) return false;
  *sum = a + b;
  return true;
}

inline bool checked_product(std::initializer_list<int64_t> sizes, int64_t* product) {
  int64_t total = 1;
  for (const int64_t size : sizes) {
    if (!checked_multiply(total, size, &total)) return false;
  }
  *product = total;
  return true;
}

// Elements that a matrix of `rows` rows of `columns`, `stride` elements apart, reaches: (rows - 1) * stride + columns.
inline bool checked_extent(int64_t rows, int64_t columns, int64_t stride, int64_t* extent) {
  if (rows < 0 || columns < 0 || stride < columns) return false;
  if (rows == 0 || columns == 0) {
    *extent = 0;
    return true;
  }
  int64_t span = 0;
  return checked_multiply(rows - 1, stride, &span) && checked_add(span, columns, extent);
}

}  // namespace xlformers
