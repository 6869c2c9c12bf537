// Sums in double over large arrays: each block by itself, then the blocks in order.
#pragma once

#include "cpu/elementwise.h"

XL_KERNELS_BEGIN

// kLanes<double> elements, as doubles.
static inline Vec<double> load_as_double(const double* address) { return load<double>(address); }

static inline Vec<double> load_as_double(const float* address) {
  typedef float Half __attribute__((vector_size(kVectorBytes / 2)));
  Half half;
  __builtin_memcpy(&half, address, sizeof half);
  return __builtin_convertvector(half, Vec<double>);
}

// Sum over i in [0, count) of f(x[i]), f taking and returning Vec<double>. f(0) must be 0.
template <typename T, typename F>
static inline double sum_in_double(const T* x, int64_t count, const F& f) {
  constexpr int kStep = kLanes<double>;
  Vec<double> sums[4] = {};
  int64_t i = 0;
  for (; i + 4 * kStep <= count; i += 4 * kStep) {
    sums[0] += f(load_as_double(x + i));
    sums[1] += f(load_as_double(x + i + kStep));
    sums[2] += f(load_as_double(x + i + 2 * kStep));
    sums[3] += f(load_as_double(x + i + 3 * kStep));
  }
  for (; i < count; i += kStep) {
    T rest[kStep] = {};
    __builtin_memcpy(rest, x + i, static_cast<size_t>(at_most(count - i, kStep)) * sizeof(T));
    sums[0] += f(load_as_double(rest));
  }
  return total<double>(sums);
}

static inline double add_in_order(const double* partial, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += partial[i];
  return sum;
}

XL_KERNELS_END
