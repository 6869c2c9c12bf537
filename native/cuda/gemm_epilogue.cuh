// What happens to a finished element of op(A) op(B): c (+)= activation(sum + bias) + residual, pre_activation = sum +
// bias. Plain products of 16 bits may go to a c of floats. Or the sum of a part of the inner dimension is put aside,
// for gemm_finish.cuh to add up, which also knows dropout.
#pragma once

#include "cuda/activation_math.cuh"
#include "cuda/gemm_operand.cuh"

namespace xlformers::cuda {

template <typename T>
struct GemmOutput {
  int64_t rows, columns;
  const T* bias;
  const T* residual;
  int64_t residual_stride;
  T* pre_activation;
  T* c;
  Compute<T>* wide_c;  // not null: takes the place of c, and there is nothing but the sums
  int64_t c_stride;
  Activation activation;
  bool accumulate;
  bool fours;  // rows of c or wide_c, residual and pre_activation, and the bias, may be read and written four elements
               // at a time
  Compute<T>* partials;  // [splits, rows, columns]; null: the sums are complete
};

template <typename T>
GemmOutput<T> output_of(const MatrixProductParams& params) {
  const auto four = [](const void* data, int64_t stride, size_t size = sizeof(T)) {
    return reinterpret_cast<uintptr_t>(data) % (size == 8 ? 16 : 4 * size) == 0 && stride % 4 == 0;
  };
  const bool wide = params.c_dtype != params.dtype;
  const bool fours = four(params.bias, 0) && four(params.c, params.c_stride, dtype_size(params.c_dtype)) &&
                     four(params.pre_activation, 0) &&
                     (params.residual == nullptr || four(params.residual, params.residual_stride));
  return {params.rows,
          params.columns,
          static_cast<const T*>(params.bias),
          static_cast<const T*>(params.residual),
          params.residual_stride,
          static_cast<T*>(params.pre_activation),
          wide ? nullptr : static_cast<T*>(params.c),
          wide ? static_cast<Compute<T>*>(params.c) : nullptr,
          params.c_stride,
          params.activation,
          params.accumulate != 0,
          fours,
          nullptr};
}

// Four elements in a row, aligned to their size or to 16 bytes.
template <typename T>
__device__ __forceinline__ void load_four(const T* from, Compute<T> (&to)[4]) {
  if constexpr (sizeof(T) == 2) {
    const uint2 words = *reinterpret_cast<const uint2*>(from);
    unpack<T>(words.x, to[0], to[1]);
    unpack<T>(words.y, to[2], to[3]);
  } else if constexpr (sizeof(T) == 4) {
    const float4 values = *reinterpret_cast<const float4*>(from);
    to[0] = values.x, to[1] = values.y, to[2] = values.z, to[3] = values.w;
  } else {
    const double2 low = reinterpret_cast<const double2*>(from)[0], high = reinterpret_cast<const double2*>(from)[1];
    to[0] = low.x, to[1] = low.y, to[2] = high.x, to[3] = high.y;
  }
}

template <typename T>
__device__ __forceinline__ void store_four(T* to, const Compute<T> (&from)[4]) {
  if constexpr (sizeof(T) == 2) {
    *reinterpret_cast<uint2*>(to) = make_uint2(pack<T>(from[0], from[1]), pack<T>(from[2], from[3]));
  } else if constexpr (sizeof(T) == 4) {
    *reinterpret_cast<float4*>(to) = make_float4(from[0], from[1], from[2], from[3]);
  } else {
    reinterpret_cast<double2*>(to)[0] = make_double2(from[0], from[1]);
    reinterpret_cast<double2*>(to)[1] = make_double2(from[2], from[3]);
  }
}

// What dropout leaves of activation's results: element k of a few in a row.
struct AllKept {
  template <typename C>
  __device__ C operator()(int, C value) const {
    return value;
  }
};

// One element inside the matrix, `index` to `kept`.
template <typename T, typename Kept = AllKept>
__device__ __forceinline__ void finish_one(const GemmOutput<T>& out, int64_t row, int64_t column, Compute<T> value,
                                           const Kept& kept = {}, int index = 0) {
  const int64_t at = row * out.c_stride + column;
  if (sizeof(T) == 2 && out.wide_c != nullptr) {
    out.wide_c[at] = out.accumulate ? out.wide_c[at] + value : value;
    return;
  }
  if (out.bias != nullptr) value += widen(out.bias[column]);
  if (out.pre_activation != nullptr) out.pre_activation[at] = narrow<T>(value);
  value = kept(index, activate(out.activation, value));
  if (out.residual != nullptr) value += widen(out.residual[row * out.residual_stride + column]);
  if (out.accumulate) value += widen(out.c[at]);
  out.c[at] = narrow<T>(value);
}

template <typename C>
__device__ __forceinline__ void add_four(C (&value)[4], const C (&other)[4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) value[i] += other[i];
}

// Four elements in a row, all inside, where `out.fours`; `column` is a multiple of 4, `index` the first one to `kept`.
template <typename T, typename Kept = AllKept>
__device__ __forceinline__ void finish_four(const GemmOutput<T>& out, int64_t row, int64_t column,
                                            Compute<T> (&value)[4], const Kept& kept = {}, int index = 0) {
  const int64_t at = row * out.c_stride + column;
  Compute<T> other[4];
  if (sizeof(T) == 2 && out.wide_c != nullptr) {
    if (out.accumulate) {
      load_four(out.wide_c + at, other);
      add_four(value, other);
    }
    store_four(out.wide_c + at, value);
    return;
  }
  if (out.bias != nullptr) {
    load_four(out.bias + column, other);
    add_four(value, other);
  }
  if (out.pre_activation != nullptr) store_four(out.pre_activation + at, value);
#pragma unroll
  for (int i = 0; i < 4; ++i) value[i] = kept(index + i, activate(out.activation, value[i]));
  if (out.residual != nullptr) {
    load_four(out.residual + row * out.residual_stride + column, other);
    add_four(value, other);
  }
  if (out.accumulate) {
    load_four(out.c + at, other);
    add_four(value, other);
  }
  store_four(out.c + at, value);
}

// Four sums in a row of a block of part `split`, in shared memory so that a loop may take them one by one; the row or
// some of the columns may lie outside of the matrix. `column` is a multiple of 4.
template <typename T>
__device__ __forceinline__ void put_four(const GemmOutput<T>& out, unsigned split, int64_t row, int64_t column,
                                         const Compute<T>* sums) {
  if (row >= out.rows || column >= out.columns) return;
  const int count = limited(out.columns - column, 4);
  if (out.partials != nullptr) {
    Compute<T>* const to = out.partials + (split * out.rows + row) * out.columns + column;
    if (out.columns % 4 == 0) {
      Compute<T> value[4];
      load_four(sums, value);
      store_four(to, value);
    } else {
#pragma unroll 1
      for (int i = 0; i < count; ++i) to[i] = sums[i];
    }
  } else if (out.fours && count == 4) {
    Compute<T> value[4];
    load_four(sums, value);
    finish_four(out, row, column, value);
  } else {
#pragma unroll 1
    for (int i = 0; i < count; ++i) finish_one(out, row, column + i, sums[i]);
  }
}

}  // namespace xlformers::cuda
