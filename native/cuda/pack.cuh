// Consecutive elements in registers, moved by accesses of up to 16 bytes.
#pragma once

#include <cstring>

#include "cuda/device.cuh"

namespace xlformers::cuda {

template <typename T, int count>
struct Pack {
  T value[count];
};

template <int bytes>
struct AccessOf;
template <>
struct AccessOf<1> {
  using Type = uint8_t;
};
template <>
struct AccessOf<2> {
  using Type = uint16_t;
};
template <>
struct AccessOf<4> {
  using Type = uint32_t;
};
template <>
struct AccessOf<8> {
  using Type = uint2;
};
template <>
struct AccessOf<16> {
  using Type = uint4;
};

// Bytes of one access to `count` elements; addresses of packs are multiples of it.
template <typename T, int count>
constexpr int kAccessBytes = static_cast<int>(sizeof(T)) * count < 16 ? static_cast<int>(sizeof(T)) * count : 16;

template <int count, typename T>
__device__ __forceinline__ Pack<T, count> load_pack(const T* address) {
  constexpr int kBytes = kAccessBytes<T, count>;
  using Access = typename AccessOf<kBytes>::Type;
  constexpr int kAccesses = static_cast<int>(sizeof(Pack<T, count>)) / kBytes;
  static_assert(kAccesses * kBytes == static_cast<int>(sizeof(Pack<T, count>)), "a pack is a whole number of accesses");
  Access words[kAccesses];
#pragma unroll
  for (int i = 0; i < kAccesses; ++i) words[i] = reinterpret_cast<const Access*>(address)[i];
  Pack<T, count> pack;
  memcpy(static_cast<void*>(&pack), words, sizeof pack);
  return pack;
}

template <int count, typename T>
__device__ __forceinline__ void store_pack(T* address, const Pack<T, count>& pack) {
  constexpr int kBytes = kAccessBytes<T, count>;
  using Access = typename AccessOf<kBytes>::Type;
  constexpr int kAccesses = static_cast<int>(sizeof(Pack<T, count>)) / kBytes;
  Access words[kAccesses];
  memcpy(static_cast<void*>(words), &pack, sizeof pack);
#pragma unroll
  for (int i = 0; i < kAccesses; ++i) reinterpret_cast<Access*>(address)[i] = words[i];
}

// Whether packs of `count` may begin at all these addresses. Null pointers may.
template <int count, typename... T>
bool aligned_for_packs(const T*... addresses) {
  return ((reinterpret_cast<uintptr_t>(addresses) % kAccessBytes<T, count> == 0) && ...);
}

// Elements of a pack of which the widest type takes 16 bytes.
template <typename... T>
__host__ __device__ constexpr int pack_elements() {
  size_t widest = 1;
  ((widest = sizeof(T) > widest ? sizeof(T) : widest), ...);
  return static_cast<int>(16 / widest);
}

}  // namespace xlformers::cuda
