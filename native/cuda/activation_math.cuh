// Activation functions by the formulas of the CPU backend (native/cpu/activation_math.h): float by rational minimax approximations,
// within a few units in the last place; double by the library, for tests.
#pragma once

#include "core/operators.h"
#include "cuda/device.cuh"

namespace xlformers::cuda {

// value where |x| < limit, exactly 1 with the sign of x beyond. NaN stays NaN.
__device__ __forceinline__ float saturated(float value, float x, float limit) {
  return x > limit ? 1.0f : (x < -limit ? -1.0f : value);
}

__device__ __forceinline__ double hyperbolic_tangent(double x) { return tanh(x); }

// x P(x^2) / Q(x^2) on |x| <= 7.9053; beyond, tanh is 1 in float.
__device__ __forceinline__ float hyperbolic_tangent(float x) {
  const float z = x * x;
  float p = -2.76076847742355e-16f;
  p = p * z + 2.00018790482477e-13f;
  p = p * z + -8.60467152213735e-11f;
  p = p * z + 5.12229709037114e-08f;
  p = p * z + 1.48572235717979e-05f;
  p = p * z + 6.37261928875436e-04f;
  p = p * z + 4.89352455891786e-03f;
  float q = 1.19825839466702e-06f;
  q = q * z + 1.18534705686654e-04f;
  q = q * z + 2.26843463243900e-03f;
  q = q * z + 4.89352518554385e-03f;
  return saturated(x * p / q, x, 7.90531110763549805f);
}

__device__ __forceinline__ double error_function(double x) { return erf(x); }

// x P(x^2) / Q(x^2) on |x| <= 4, where erf is 1 in float.
__device__ __forceinline__ float error_function(float x) {
  const float z = x * x;
  float p = -2.72614225801306e-10f;
  p = p * z + 2.77068142495902e-08f;
  p = p * z + -2.10102402082508e-06f;
  p = p * z + -5.69250639462346e-05f;
  p = p * z + -7.34990630326855e-04f;
  p = p * z + -2.95459980854025e-03f;
  p = p * z + -1.60960333262415e-02f;
  float q = -1.45660718464996e-05f;
  q = q * z + -2.13374055278905e-04f;
  q = q * z + -1.68282697438203e-03f;
  q = q * z + -7.37332916720468e-03f;
  q = q * z + -1.42647390514189e-02f;
  return saturated(x * p / q, x, 4.0f);
}

__device__ __forceinline__ float exponential(float x) { return expf(x); }
__device__ __forceinline__ double exponential(double x) { return exp(x); }

// 1 / (1 + e^-x), by e^-|x|, which cannot overflow.
template <typename C>
__device__ __forceinline__ C sigmoid(C x) {
  const C e = exponential(x < C{0} ? x : -x);
  const C larger = C{1} / (e + C{1});
  return x < C{0} ? e * larger : larger;
}

// The inner function of the tanh form of gelu: sqrt(2 / pi) (x + 0.044715 x^3).
template <typename C>
__device__ __forceinline__ C gelu_tanh_inner(C x) {
  return x * (x * x * static_cast<C>(0.044715) + C{1}) * static_cast<C>(0.79788456080286535588);
}

// C = float or double.
template <typename C>
__device__ __forceinline__ C activate(Activation activation, C x) {
  switch (activation) {
    case Activation::none: return x;
    case Activation::relu: return x < C{0} ? C{0} : x;  // NaN stays NaN
    case Activation::gelu: return x * static_cast<C>(0.5) * (error_function(x * static_cast<C>(0.70710678118654752440)) + C{1});
    case Activation::gelu_tanh: return x * static_cast<C>(0.5) * (hyperbolic_tangent(gelu_tanh_inner(x)) + C{1});
    case Activation::silu: return x * sigmoid(x);
    case Activation::tanh: return hyperbolic_tangent(x);
  }
  return x;
}

// activation'(x); `x` is the activation's output for relu and tanh, its input for the others.
template <typename C>
__device__ __forceinline__ C activation_slope(Activation activation, C x) {
  switch (activation) {
    case Activation::none: return C{1};
    case Activation::relu: return x > C{0} ? C{1} : C{0};
    case Activation::gelu: {  // Phi(x) + x phi(x), the normal distribution and its density
      const C density = exponential(x * x * static_cast<C>(-0.5)) * static_cast<C>(0.39894228040143267794);
      const C distribution = (error_function(x * static_cast<C>(0.70710678118654752440)) + C{1}) * static_cast<C>(0.5);
      return distribution + x * density;
    }
    case Activation::gelu_tanh: {
      const C t = hyperbolic_tangent(gelu_tanh_inner(x));
      const C inner_slope = (x * x * static_cast<C>(3 * 0.044715) + C{1}) * static_cast<C>(0.79788456080286535588);
      return (C{1} + t) * static_cast<C>(0.5) + x * static_cast<C>(0.5) * (C{1} - t * t) * inner_slope;
    }
    case Activation::silu: {
      const C s = sigmoid(x);
      return s * (C{1} + x * (C{1} - s));
    }
    case Activation::tanh: return C{1} - x * x;
  }
  return C{1};
}

}  // namespace xlformers::cuda
