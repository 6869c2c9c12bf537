// Between the floating types, element by element.
#pragma once

#include "core/short_float.h"
#include "cpu/isa.h"

XL_KERNELS_BEGIN

static inline float widened(float value) { return value; }
static inline double widened(double value) { return value; }
static inline float widened(Bfloat16 value) { return to_float(value); }
static inline float widened(Float16 value) { return to_float(value); }

// Rounded<Out>::of(value): once, to nearest even.
template <typename Out>
struct Rounded;
template <>
struct Rounded<float> {
  template <typename C>
  static float of(C value) {
    return static_cast<float>(value);
  }
};
template <>
struct Rounded<double> {
  template <typename C>
  static double of(C value) {
    return static_cast<double>(value);
  }
};
template <>
struct Rounded<Bfloat16> {
  template <typename C>
  static Bfloat16 of(C value) {
    return to_bfloat16(value);
  }
};
template <>
struct Rounded<Float16> {
  template <typename C>
  static Float16 of(C value) {
    return to_float16(value);
  }
};

XL_KERNELS_END
