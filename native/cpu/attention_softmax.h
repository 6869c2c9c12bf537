// The online softmax of attention's rows (Milakov & Gimelshein 2018).
#pragma once

#include "cpu/attention_tile.h"

XL_KERNELS_BEGIN

// The running softmax of a row.
template <typename T>
struct RowState {
  T maximum;
  T sum;
};

// scores[begin, end) -> exp(score - maximum), updating the row's maximum and sum; returns the factor for what was summed before.
template <typename T>
static inline T exponentiate(T* scores, int64_t begin, int64_t end, RowState<T>* state) {
  Vec<T> top = broadcast(state->maximum);
  int64_t j = begin;
  for (; j + kLanes<T> <= end; j += kLanes<T>) top = maximum<T>(load(scores + j), top);
  T highest = horizontal_max<T>(top);
  for (; j < end; ++j) highest = scores[j] > highest ? scores[j] : highest;
  const Vec<T> shift = broadcast(highest);
  Vec<T> sums = {};
  for (j = begin; j + kLanes<T> <= end; j += kLanes<T>) {
    const Vec<T> p = exponential(load(scores + j) - shift);
    store(scores + j, p);
    sums += p;
  }
  T sum = 0;
  if (j < end) {
    const int count = static_cast<int>(end - j);
    store_partial<T>(scores + j, exponential(load_partial(scores + j, count) - shift), count);
    for (; j < end; ++j) sum += scores[j];
  }
  const T correction = exponential(broadcast(state->maximum - highest))[0];
  state->maximum = highest;
  state->sum = state->sum * correction + (horizontal_sum<T>(sums) + sum);
  return correction;
}

template <typename T>
static inline T dot(const T* a, const T* b, int64_t count) {
  Vec<T> sums = {};
  int64_t k = 0;
  for (; k + kLanes<T> <= count; k += kLanes<T>) sums += load(a + k) * load(b + k);
  T sum = horizontal_sum<T>(sums);
  for (; k < count; ++k) sum += a[k] * b[k];
  return sum;
}

XL_KERNELS_END
