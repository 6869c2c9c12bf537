// Activation functions and their derivatives by the vector: for activation.cc and the epilogue of matrix_product.cc.
//
// float: rational minimax approximations (the ones of Eigen), within a few units in the last place. double: the
// library's functions lane by lane, for it serves tests only.
#pragma once

#include "core/operators.h"
#include "core/status.h"
#include "cpu/vec.h"

XL_KERNELS_BEGIN

template <typename F>
static inline Vec<double> each_lane(Vec<double> x, F f) {
  double lanes[kLanes<double>];
  __builtin_memcpy(lanes, &x, sizeof x);
  for (double& lane : lanes) lane = f(lane);
  __builtin_memcpy(&x, lanes, sizeof x);
  return x;
}

static inline Vec<double> hyperbolic_tangent(Vec<double> x) {
  return each_lane(x, [](double lane) { return std::tanh(lane); });
}

// value where |x| < limit, exactly 1 with the sign of x beyond: gelu's slope has 1 - tanh^2 times a large number, in
// which an error of the last place would show. NaN stays NaN.
static inline Vec<float> saturated(Vec<float> value, Vec<float> x, Vec<float> limit) {
  const Vec<float> one = broadcast(1.0f);
  return x > limit ? one : (x < -limit ? -one : value);
}

// x P(x^2) / Q(x^2) on |x| <= 7.9053; beyond, tanh is 1 in float.
static inline Vec<float> hyperbolic_tangent(Vec<float> x) {
  const Vec<float> limit = broadcast(7.90531110763549805f);
  const Vec<float> z = x * x;
  Vec<float> p = broadcast(-2.76076847742355e-16f);
  p = p * z + 2.00018790482477e-13f;
  p = p * z + -8.60467152213735e-11f;
  p = p * z + 5.12229709037114e-08f;
  p = p * z + 1.48572235717979e-05f;
  p = p * z + 6.37261928875436e-04f;
  p = p * z + 4.89352455891786e-03f;
  Vec<float> q = broadcast(1.19825839466702e-06f);
  q = q * z + 1.18534705686654e-04f;
  q = q * z + 2.26843463243900e-03f;
  q = q * z + 4.89352518554385e-03f;
  return saturated(x * p / q, x, limit);
}

static inline Vec<double> error_function(Vec<double> x) {
  return each_lane(x, [](double lane) { return std::erf(lane); });
}

// x P(x^2) / Q(x^2) on |x| <= 4, where erf is 1 in float.
static inline Vec<float> error_function(Vec<float> x) {
  const Vec<float> limit = broadcast(4.0f);
  const Vec<float> z = x * x;
  Vec<float> p = broadcast(-2.72614225801306e-10f);
  p = p * z + 2.77068142495902e-08f;
  p = p * z + -2.10102402082508e-06f;
  p = p * z + -5.69250639462346e-05f;
  p = p * z + -7.34990630326855e-04f;
  p = p * z + -2.95459980854025e-03f;
  p = p * z + -1.60960333262415e-02f;
  Vec<float> q = broadcast(-1.45660718464996e-05f);
  q = q * z + -2.13374055278905e-04f;
  q = q * z + -1.68282697438203e-03f;
  q = q * z + -7.37332916720468e-03f;
  q = q * z + -1.42647390514189e-02f;
  return saturated(x * p / q, x, limit);
}

// 1 / (1 + e^-x), by e^-|x|, which cannot overflow.
template <typename T>
static inline Vec<T> sigmoid(Vec<T> x) {
  const Vec<T> e = exponential(x < Vec<T>{} ? x : -x);
  const Vec<T> larger = T{1} / (e + T{1});
  return x < Vec<T>{} ? e * larger : larger;
}

// The inner function of the tanh form of gelu: sqrt(2 / pi) (x + 0.044715 x^3).
template <typename T>
static inline Vec<T> gelu_tanh_inner(Vec<T> x) {
  return x * (x * x * static_cast<T>(0.044715) + T{1}) * static_cast<T>(0.79788456080286535588);
}

template <Activation kind, typename T>
static inline Vec<T> activate(Vec<T> x) {
  if constexpr (kind == Activation::relu) return x < Vec<T>{} ? Vec<T>{} : x;  // NaN stays NaN
  if constexpr (kind == Activation::gelu) {
    return x * static_cast<T>(0.5) * (error_function(x * static_cast<T>(0.70710678118654752440)) + T{1});
  }
  if constexpr (kind == Activation::gelu_tanh) {
    return x * static_cast<T>(0.5) * (hyperbolic_tangent(gelu_tanh_inner<T>(x)) + T{1});
  }
  if constexpr (kind == Activation::silu) return x * sigmoid<T>(x);
  if constexpr (kind == Activation::tanh) return hyperbolic_tangent(x);
  return x;
}

// activation'(x); `x` is the activation's output for relu and tanh, its input for the others.
template <Activation kind, typename T>
static inline Vec<T> activation_slope(Vec<T> x) {
  const Vec<T> one = broadcast(T{1});
  if constexpr (kind == Activation::relu) return x > Vec<T>{} ? one : Vec<T>{};
  if constexpr (kind == Activation::gelu) {
    // Phi(x) + x phi(x), the normal distribution and its density
    const Vec<T> density = exponential(x * x * static_cast<T>(-0.5)) * static_cast<T>(0.39894228040143267794);
    const Vec<T> distribution =
        (error_function(x * static_cast<T>(0.70710678118654752440)) + one) * static_cast<T>(0.5);
    return distribution + x * density;
  }
  if constexpr (kind == Activation::gelu_tanh) {
    const Vec<T> t = hyperbolic_tangent(gelu_tanh_inner<T>(x));
    const Vec<T> inner_slope = (x * x * static_cast<T>(3 * 0.044715) + one) * static_cast<T>(0.79788456080286535588);
    return (one + t) * static_cast<T>(0.5) + x * static_cast<T>(0.5) * (one - t * t) * inner_slope;
  }
  if constexpr (kind == Activation::silu) {
    const Vec<T> s = sigmoid<T>(x);
    return s * (one + x * (one - s));
  }
  if constexpr (kind == Activation::tanh) return one - x * x;
  return one;
}

// Calls visit(tag) with the activation as a compile-time constant, tag.value.
template <Activation kind>
struct ActivationTag {
  static constexpr Activation value = kind;
};

template <typename Visitor>
static inline Status with_activation(Activation activation, const Visitor& visit) {
  switch (activation) {
    case Activation::none: visit(ActivationTag<Activation::none>{}); return ok_status();
    case Activation::relu: visit(ActivationTag<Activation::relu>{}); return ok_status();
    case Activation::gelu: visit(ActivationTag<Activation::gelu>{}); return ok_status();
    case Activation::gelu_tanh: visit(ActivationTag<Activation::gelu_tanh>{}); return ok_status();
    case Activation::silu: visit(ActivationTag<Activation::silu>{}); return ok_status();
    case Activation::tanh: visit(ActivationTag<Activation::tanh>{}); return ok_status();
  }
  return make_status(StatusCode::invalid_argument, "activation %d is unknown", static_cast<int>(activation));
}

XL_KERNELS_END
