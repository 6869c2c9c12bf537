// Number types of kernels: what is stored, and what is computed with. float, double (tests), bf16 and fp16.
#pragma once

#include <type_traits>

#include "core/dtype.h"
#include "core/status.h"
#include "cuda/device.cuh"

namespace xlformers::cuda {

template <typename T>
struct Computed {
  using Type = float;
};
template <>
struct Computed<double> {
  using Type = double;
};

// In which sums run, and the type of statistics (mean, log-sum-exp, loss): float for bf16 and fp16.
template <typename T>
using Compute = typename Computed<T>::Type;

__host__ __device__ __forceinline__ double widen(double value) { return value; }
__host__ __device__ __forceinline__ float widen(float value) { return value; }
__host__ __device__ __forceinline__ float widen(__nv_bfloat16 value) { return to_float(value); }
__host__ __device__ __forceinline__ float widen(__half value) { return to_float(value); }

template <typename T>
__device__ __forceinline__ T narrow(Compute<T> value) {
  if constexpr (sizeof(T) == sizeof(Compute<T>)) {
    return value;
  } else {
    return from_float<T>(value);
  }
}

// Rounded once: doubles do not become 16-bit numbers by way of float.
template <typename Out, typename C>
__device__ __forceinline__ Out rounded(C value) {
  if constexpr (sizeof(Out) >= sizeof(float)) {
    return static_cast<Out>(value);
  } else if constexpr (sizeof(C) == sizeof(float)) {
    return from_float<Out>(value);
  } else if constexpr (std::is_same_v<Out, __half>) {
    return __double2half(value);
  } else {
    return __double2bfloat16(value);
  }
}

__device__ __forceinline__ float square_root(float x) { return sqrtf(x); }
__device__ __forceinline__ double square_root(double x) { return sqrt(x); }

// Also on the host.
template <typename T>
__host__ __device__ __forceinline__ T narrow_double(double value) {
  if constexpr (sizeof(T) >= sizeof(float)) {
    return static_cast<T>(value);
  } else {
    return from_float<T>(static_cast<float>(value));
  }
}

template <typename T>
struct TypeTag {
  using Type = T;
};

// visit(TypeTag<T>{}) with the floating type that a block's dtype says.
template <typename Visit>
Status with_float_type(DType dtype, const Visit& visit) {
  switch (dtype) {
    case DType::f32: return visit(TypeTag<float>{});
    case DType::f64: return visit(TypeTag<double>{});
    case DType::bf16: return visit(TypeTag<__nv_bfloat16>{});
    case DType::f16: return visit(TypeTag<__half>{});
    default: return make_status(StatusCode::unsupported, "dtype %s, expected f32, f64, bf16 or f16", dtype_name(dtype));
  }
}

}  // namespace xlformers::cuda
