// Loops over arrays: fixed blocks shared out over the pool, vectors inside.
#pragma once

#include "cpu/kernel.h"
#include "cpu/vec.h"

// For the bodies of for_vectors, which must see their arguments as constants.
#define XL_INLINE __attribute__((always_inline))

XL_KERNELS_BEGIN

// Elements of one task: enough to hide the cost of handing it out, few enough for the second-level cache.
constexpr int64_t kBlockElements = 16384;

static inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

static inline int64_t at_most(int64_t a, int64_t limit) { return a < limit ? a : limit; }

// Rows of one task, from the length of a row alone.
static inline int64_t rows_per_task(int64_t columns) {
  return columns >= kBlockElements ? 1 : kBlockElements / (columns > 0 ? columns : 1);
}

// body(begin, end, worker) over [0, count) in blocks of `block`.
template <typename Body>
static inline void parallel_blocks(Context& context, int64_t count, int64_t block, const Body& body) {
  if (count <= 0) return;
  context.pool.parallel_for(divide_up(count, block), [&](int64_t task, int worker) {
    body(task * block, at_most((task + 1) * block, count), worker);
  });
}

// out[i] = f(in0[i], in1[i], ...) for i in [begin, end). Pointers by value: the compiler then knows that no store
// changes them.
template <typename T, typename F, typename... In>
static inline void transform_range(int64_t begin, int64_t end, const F f, T* out, const In*... in) {
  int64_t i = begin;
  for (; i + kLanes<T> <= end; i += kLanes<T>) store<T>(out + i, f(load<T>(in + i)...));
  if (i < end) {
    const int rest = static_cast<int>(end - i);
    store_partial<T>(out + i, f(load_partial<T>(in + i, rest)...), rest);
  }
}

template <typename T, typename F, typename... In>
static inline void transform(Context& context, int64_t count, const F f, T* out, const In*... in) {
  parallel_blocks(context, count, kBlockElements,
                  [=](int64_t begin, int64_t end, int) { transform_range<T>(begin, end, f, out, in...); });
}

// load and store of the first `count` <= kLanes<T> lanes; with the constant kLanes<T> they are plain vector moves.
template <typename T>
static inline Vec<T> load_lanes(const T* address, int count) {
  return count == kLanes<T> ? load<T>(address) : load_partial<T>(address, count);
}

template <typename T>
static inline void store_lanes(T* address, Vec<T> v, int count) {
  if (count == kLanes<T>) {
    store<T>(address, v);
  } else {
    store_partial<T>(address, v, count);
  }
}

// v with the lanes from `count` on set to zero: what a sum may add.
template <typename T>
static inline Vec<T> first_lanes(Vec<T> v, int count) {
  return count == kLanes<T> ? v : load_partial<T>(reinterpret_cast<const T*>(&v), count);
}

// f(i, count, k) for the vectors of a row, the last one perhaps short. k in 0..3 tells neighbours apart, so that each
// may add to an accumulator of its own: four chains of additions run side by side.
template <typename T, typename F>
static inline void for_vectors(int64_t size, const F& f) {
  constexpr int kStep = kLanes<T>;
  int64_t i = 0;
  for (; i + 4 * kStep <= size; i += 4 * kStep) {
    f(i, kStep, 0);
    f(i + kStep, kStep, 1);
    f(i + 2 * kStep, kStep, 2);
    f(i + 3 * kStep, kStep, 3);
  }
  for (; i + kStep <= size; i += kStep) f(i, kStep, 0);
  if (i < size) f(i, static_cast<int>(size - i), 0);
}

// The four accumulators of for_vectors, added up.
template <typename T>
static inline double total(const Vec<T>* accumulators) {
  return static_cast<double>(
      horizontal_sum<T>((accumulators[0] + accumulators[1]) + (accumulators[2] + accumulators[3])));
}

static inline Status unsupported_dtype(const char* name, DType dtype) {
  return make_status(StatusCode::unsupported, "%s: dtype %s is not supported by the CPU backend (f32 and f64 are)",
                     name, dtype_name(dtype));
}

// Defines the kernel `name` as the template `run` for f32 and f64.
#define XL_FLOATING_KERNEL(name, Params, run)                  \
  Status name(Context& context, const void* block) {           \
    const Params& params = *static_cast<const Params*>(block); \
    switch (params.dtype) {                                    \
      case DType::f32: return run<float>(context, params);     \
      case DType::f64: return run<double>(context, params);    \
      default: return unsupported_dtype(#name, params.dtype);  \
    }                                                          \
  }

XL_KERNELS_END
