// What the kernels of softmaxes share: sums of exponentials over a row that a block reads once, and the order of
// scores.
#pragma once

#include <algorithm>

#include "cuda/kernel.h"
#include "cuda/row_vectors.cuh"

namespace xlformers::cuda {

// Threads for a row: a warp, or for long rows a block. Rows of up to kShortRow elements take one or two turns of a
// warp.
constexpr int kShortRowThreads = 32, kLongRowThreads = 512;
constexpr int64_t kShortRow = 512;

__device__ __forceinline__ float exp_of(float x) { return expf(x); }
__device__ __forceinline__ double exp_of(double x) { return exp(x); }
__device__ __forceinline__ float log_of(float x) { return logf(x); }
__device__ __forceinline__ double log_of(double x) { return log(x); }
__device__ __forceinline__ float larger(float a, float b) { return fmaxf(a, b); }  // NaN only of two
__device__ __forceinline__ double larger(double a, double b) { return fmax(a, b); }

template <typename C>
__device__ __forceinline__ C minus_infinity() {
  return -static_cast<C>(__builtin_huge_valf());
}

template <typename V>
__device__ __forceinline__ V from_lane_across(V value, int distance) {
  return __shfl_xor_sync(0xFFFFFFFFu, value, distance);
}

// All values of the block by `combine`, which does not mind the order of two; in every thread. The tree is always the
// same.
template <int threads, typename V, typename Combine>
__device__ __forceinline__ V block_reduce(V value, const Combine& combine) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) value = combine(value, from_lane_across(value, distance));
  if constexpr (threads > 32) {
    XL_SHARED(of_warp, V[threads / 32]);
    __syncthreads();  // the last use of `of_warp`
    if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = value;
    __syncthreads();
    value = of_warp[0];
#pragma unroll
    for (int warp = 1; warp < threads / 32; ++warp) value = combine(value, of_warp[warp]);
  }
  return value;
}

template <int threads, typename V>
__device__ __forceinline__ V block_total(V value) {
  return block_reduce<threads>(value, [](V a, V b) { return a + b; });
}

// sum(exp(x)) = sum * e^maximum. NaN, which no maximum sees, reaches the sum; elements of -inf add nothing.
template <typename C>
struct ExponentialSum {
  C maximum = minus_infinity<C>();
  C sum = 0;

  // What is subtracted from elements: -inf minus itself would be NaN.
  static __device__ __forceinline__ C offset(C maximum) { return maximum == minus_infinity<C>() ? C{0} : maximum; }

  template <int count>
  __device__ __forceinline__ void add(const C (&x)[count]) {
    C highest = maximum;
#pragma unroll
    for (int i = 0; i < count; ++i) highest = larger(highest, x[i]);
    const C top = offset(highest);
    if (highest > maximum) sum *= exp_of(maximum - top);
    maximum = highest;
#pragma unroll
    for (int i = 0; i < count; ++i) sum += exp_of(x[i] - top);
  }

  __device__ __forceinline__ void add(const ExponentialSum& other) {
    const C highest = larger(maximum, other.maximum), top = offset(highest);
    sum = sum * exp_of(maximum - top) + other.sum * exp_of(other.maximum - top);
    maximum = highest;
  }

  __device__ __forceinline__ C logarithm() const { return maximum + log_of(sum); }
};

// The sums of all threads together, in every thread.
template <int threads, typename C>
__device__ __forceinline__ ExponentialSum<C> block_sum_of(const ExponentialSum<C>& mine) {
  ExponentialSum<C> all;
  all.maximum = block_reduce<threads>(mine.maximum, [](C a, C b) { return larger(a, b); });
  all.sum = block_total<threads>(mine.sum * exp_of(mine.maximum - ExponentialSum<C>::offset(all.maximum)));
  return all;
}

template <int threads, typename T>
__device__ __forceinline__ void add_row(ExponentialSum<Compute<T>>& sum, const T* row, int64_t count) {
  for_vectors<threads>(row, count, minus_infinity<Compute<T>>(), [&](int64_t, Vector<T>& values) { sum.add(values); });
}

// Unsigned numbers in the order of the scores, of as many bits as the format tells apart; NaN has 0, below all others.
template <typename T>
struct ScoreKey {
  using Type = uint32_t;
  static constexpr int kDigits = sizeof(T) == 4 ? 4 : 3;  // of 8 bits; fp16 has 19 that matter
};
template <>
struct ScoreKey<__nv_bfloat16> {
  using Type = uint32_t;
  static constexpr int kDigits = 2;
};
template <>
struct ScoreKey<double> {
  using Type = uint64_t;
  static constexpr int kDigits = 8;
};
template <typename T>
using KeyOf = typename ScoreKey<T>::Type;

// The sign bit is flipped for positive numbers, all bits for negative ones.
template <typename T>
__device__ __forceinline__ KeyOf<T> ordered_key(Compute<T> score) {
  using Key = KeyOf<T>;
  constexpr int kBits = 8 * sizeof(Key);
  constexpr Key kSign = Key{1} << (kBits - 1);
  if (score != score) return 0;
  score += Compute<T>{0};  // -0 becomes +0, its equal
  Key bits;
  memcpy(&bits, &score, sizeof bits);
  bits = (bits & kSign) != 0 ? ~bits : bits | kSign;
  return bits >> (kBits - 8 * ScoreKey<T>::kDigits);
}

// A column by rank: higher scores first, of equals the lower column.
template <typename Key>
struct Ranked {
  Key key;
  int32_t column;

  __device__ __forceinline__ bool before(const Ranked& other) const {
    return key > other.key || (key == other.key && column < other.column);
  }
};

template <typename Key>
__device__ __forceinline__ Ranked<Key> from_lane_across(Ranked<Key> value, int distance) {
  return {from_lane_across(value.key, distance), from_lane_across(value.column, distance)};
}

template <int threads, typename Key>
__device__ __forceinline__ Ranked<Key> first_of_block(const Ranked<Key>& mine) {
  return block_reduce<threads>(mine, [](const Ranked<Key>& a, const Ranked<Key>& b) { return b.before(a) ? b : a; });
}

template <typename Key>
__device__ __forceinline__ Ranked<Key> behind_all() {
  return {0, INT32_MAX};
}

// kernel<T, threads> with a block to a row; a kernel of more rows than blocks takes them in turn.
inline LaunchShape row_launch(const Context& context, const char* name, int64_t rows, int threads, unsigned parts = 1) {
  constexpr int64_t kMostBlocks = int64_t{1} << 30;
  return {name, dim3(static_cast<unsigned>(std::min(rows, kMostBlocks)), parts), dim3(static_cast<unsigned>(threads)),
          0, context.stream};
}

}  // namespace xlformers::cuda
