// log(sum(exp(x))) over a row that may arrive in pieces.
#pragma once

#include "cpu/elementwise.h"

XL_KERNELS_BEGIN

// sum(exp(x)) = sum * e^maximum, for what was added so far.
struct LogSumExp {
  double maximum = -__builtin_inf();
  double sum = 0;

  double value() const { return maximum + std::log(sum); }
};

// The first `count` elements, `filler` in the lanes after them.
template <typename T>
static inline Vec<T> load_or(const T* address, int count, T filler) {
  if (count == kLanes<T>) return load<T>(address);
  Vec<T> v = broadcast(filler);
  __builtin_memcpy(&v, address, static_cast<unsigned>(count) * sizeof(T));
  return v;
}

// Adds x[0 .. count). Pieces of the size of the first-level cache are read twice, for their maximum and for their sum,
// and their sums are added in double.
template <typename T>
static inline void add_to(LogSumExp& total_so_far, const T* x, int64_t count) {
  constexpr int64_t kPiece = 1024;
  const T nothing = -static_cast<T>(__builtin_inf());
  for (int64_t begin = 0; begin < count; begin += kPiece) {
    const T* piece = x + begin;
    const int64_t size = at_most(count - begin, kPiece);
    Vec<T> maxima[4] = {broadcast(nothing), broadcast(nothing), broadcast(nothing), broadcast(nothing)};
    for_vectors<T>(size, [&](int64_t i, int lanes, int k) XL_INLINE {
      const Vec<T> v = load_or(piece + i, lanes, nothing);
      maxima[k] = maximum<T>(v, maxima[k]);
    });
    T highest = horizontal_max<T>(maximum<T>(maximum<T>(maxima[0], maxima[1]), maximum<T>(maxima[2], maxima[3])));
    if (highest == nothing) highest = 0;  // e^(-inf - 0) is 0, and NaN, which no comparison sees, still reaches the sum
    Vec<T> sums[4] = {};
    for_vectors<T>(size, [&](int64_t i, int lanes, int k) XL_INLINE {
      const Vec<T> v = load_or(piece + i, lanes, nothing);
      sums[k] += exponential(v - highest);
    });
    const double sum = total<T>(sums);
    if (sum == 0) continue;
    const double top = static_cast<double>(highest);
    if (top > total_so_far.maximum) {
      total_so_far.sum = total_so_far.sum == 0 ? sum : total_so_far.sum * std::exp(total_so_far.maximum - top) + sum;
      total_so_far.maximum = top;
    } else {
      total_so_far.sum += sum * std::exp(top - total_so_far.maximum);
    }
  }
}

XL_KERNELS_END
