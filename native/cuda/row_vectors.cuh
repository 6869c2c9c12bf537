// Rows of a matrix, read and written 16 bytes at a time wherever they begin: the vectors start at a multiple of 16
// bytes, so the first and the last one may stick out of the row.
#pragma once

#include "cuda/numeric.cuh"

namespace xlformers::cuda {

template <typename T>
constexpr int kVectorElements = 16 / static_cast<int>(sizeof(T));

template <typename T>
using Vector = Compute<T>[kVectorElements<T>];

template <typename T>
__device__ __forceinline__ void two_of(uint32_t word, float& low, float& high);
template <>
__device__ __forceinline__ void two_of<__nv_bfloat16>(uint32_t word, float& low, float& high) {
  low = __uint_as_float(word << 16);
  high = __uint_as_float(word & 0xFFFF0000u);
}
template <>
__device__ __forceinline__ void two_of<__half>(uint32_t word, float& low, float& high) {
  low = to_float(__ushort_as_half(static_cast<uint16_t>(word & 0xFFFFu)));
  high = to_float(__ushort_as_half(static_cast<uint16_t>(word >> 16)));
}

// Elements `first` ... of a row of `count`; `filler` for those that lie outside. Address row + first is a multiple
// of 16.
template <typename T>
__device__ __forceinline__ void load_vector(const T* row, int64_t first, int64_t count, Compute<T> filler,
                                            Vector<T>& values) {
  constexpr int kElements = kVectorElements<T>;
  if (first < 0 || first + kElements > count) {
#pragma unroll
    for (int i = 0; i < kElements; ++i)
      values[i] = first + i >= 0 && first + i < count ? widen(row[first + i]) : filler;
    return;
  }
  if constexpr (sizeof(T) == 2) {
    const uint4 words = *reinterpret_cast<const uint4*>(row + first);
    two_of<T>(words.x, values[0], values[1]);
    two_of<T>(words.y, values[2], values[3]);
    two_of<T>(words.z, values[4], values[5]);
    two_of<T>(words.w, values[6], values[7]);
  } else if constexpr (sizeof(T) == 4) {
    const float4 four = *reinterpret_cast<const float4*>(row + first);
    values[0] = four.x, values[1] = four.y, values[2] = four.z, values[3] = four.w;
  } else {
    const double2 two = *reinterpret_cast<const double2*>(row + first);
    values[0] = two.x, values[1] = two.y;
  }
}

// Any address: whole vectors where it is a multiple of 16.
template <typename T>
__device__ __forceinline__ void store_vector(T* row, int64_t first, int64_t count, const Vector<T>& values) {
  constexpr int kElements = kVectorElements<T>;
  if (first < 0 || first + kElements > count || reinterpret_cast<uintptr_t>(row + first) % 16 != 0) {
#pragma unroll
    for (int i = 0; i < kElements; ++i) {
      if (first + i >= 0 && first + i < count) row[first + i] = narrow<T>(values[i]);
    }
    return;
  }
  if constexpr (sizeof(T) == 2) {
    *reinterpret_cast<uint4*>(row + first) = make_uint4(pack<T>(values[0], values[1]), pack<T>(values[2], values[3]),
                                                        pack<T>(values[4], values[5]), pack<T>(values[6], values[7]));
  } else if constexpr (sizeof(T) == 4) {
    *reinterpret_cast<float4*>(row + first) = make_float4(values[0], values[1], values[2], values[3]);
  } else {
    *reinterpret_cast<double2*>(row + first) = make_double2(values[0], values[1]);
  }
}

// body(first, values) for the row's vectors, number `part` of `parts` of a row to each thread of the block in turn.
template <int threads, typename T, typename Body>
__device__ __forceinline__ void for_vectors(const T* row, int64_t count, Compute<T> filler, const Body& body,
                                            unsigned part = 0, unsigned parts = 1) {
  constexpr int kElements = kVectorElements<T>;
  const int before = static_cast<int>(reinterpret_cast<uintptr_t>(row) / sizeof(T) % kElements);
  const int64_t turn = int64_t{threads} * kElements;
  for (int64_t first = part * turn + static_cast<int64_t>(threadIdx.x) * kElements - before; first < count;
       first += parts * turn) {
    Vector<T> values;
    load_vector(row, first, count, filler, values);
    body(first, values);
  }
}

}  // namespace xlformers::cuda
