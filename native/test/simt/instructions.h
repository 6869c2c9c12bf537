// What the threads of a block do together, and what they do to memory other than by plain loads and stores. Each
// collective takes the place of its call, so that reports can name it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "simt/fault.h"
#include "simt/half.h"
#include "simt/types.h"

namespace simt {

uint3 thread_index();
uint3 block_index();
dim3 block_size();
dim3 grid_size();

enum class Vote { ballot, any, all };
enum class Reduction { add, minimum, maximum, bit_and, bit_or, bit_xor };
enum class ShuffleKind { index, up, down, exclusive_or };
enum class BarrierKind { plain, count, conjunction, disjunction };

// The result of __syncthreads_count, _and, _or; nothing for a plain barrier.
int block_barrier(BarrierKind kind, int predicate, Site site);
void named_barrier(int id, int threads, bool waits, Site site);
void warp_barrier(uint32_t mask, Site site);
uint64_t shuffle(ShuffleKind kind, uint32_t mask, uint64_t value, int operand, int width, Site site);
uint32_t vote(Vote kind, uint32_t mask, bool predicate, Site site);
int64_t reduce(Reduction kind, uint32_t mask, int64_t value, Site site);
uint32_t active_mask();
void memory_fence(bool block_only);

unsigned char* dynamic_shared();
void* static_shared(const void* key, size_t bytes, size_t alignment);

// One variable per place and per instance of a template: `Place` is the type of a lambda written there.
template <typename T, typename Place>
T& shared_variable(Place) {
  static const char key = 0;
  return *static_cast<T*>(static_shared(&key, sizeof(T), alignof(T)));
}

// Every atomic is one exchange under a lock-free loop: f(old) is the new value.
enum class AtomicKind { add, minimum, maximum, exchange, compare_and_swap, bit_and, bit_or };
uint32_t atomic_word(AtomicKind kind, void* address, uint32_t operand, uint32_t compare, char type);
uint64_t atomic_double_word(AtomicKind kind, void* address, uint64_t operand, uint64_t compare, char type);

void multiply_accumulate_16816(char type, float* accumulator, const uint32_t* a, const uint32_t* b, Site site);
void multiply_accumulate_1688(float* accumulator, const uint32_t* a, const uint32_t* b, Site site);
void load_matrices(int count, bool transposed, uint32_t* fragment, const void* row, Site site);

void async_copy(void* shared, const void* global, int bytes, int source_bytes);
void async_commit();
void async_wait(int groups_left);

// The instructions below have the names and arguments of cuda/device.cuh.

template <typename T>
inline void mma_m16n8k16(float (&accumulator)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1,
                         Site site = Site::here()) {
  static_assert(std::is_same_v<T, __half> || std::is_same_v<T, __nv_bfloat16>, "mma_m16n8k16 takes bf16 or fp16");
  const uint32_t b[2] = {b0, b1};
  multiply_accumulate_16816(std::is_same_v<T, __half> ? 'h' : 'b', accumulator, a, b, site);
}

inline void mma_m16n8k8_tf32(float (&accumulator)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1,
                             Site site = Site::here()) {
  const uint32_t b[2] = {b0, b1};
  multiply_accumulate_1688(accumulator, a, b, site);
}

template <int count>
inline void ldmatrix(uint32_t (&fragment)[count], const void* row, Site site = Site::here()) {
  static_assert(count == 1 || count == 2 || count == 4, "ldmatrix loads 1, 2 or 4 matrices");
  load_matrices(count, false, fragment, row, site);
}

template <int count>
inline void ldmatrix_transposed(uint32_t (&fragment)[count], const void* row, Site site = Site::here()) {
  static_assert(count == 1 || count == 2 || count == 4, "ldmatrix loads 1, 2 or 4 matrices");
  load_matrices(count, true, fragment, row, site);
}

template <int bytes>
inline void cp_async(void* shared, const void* global, int source_bytes = bytes) {
  static_assert(bytes == 4 || bytes == 8 || bytes == 16, "cp.async copies 4, 8 or 16 bytes");
  async_copy(shared, global, bytes, source_bytes);
}

inline void cp_async_commit() { async_commit(); }

template <int groups_left>
inline void cp_async_wait() {
  async_wait(groups_left);
}

inline void barrier_sync(int id, int threads, Site site = Site::here()) { named_barrier(id, threads, true, site); }
inline void barrier_arrive(int id, int threads, Site site = Site::here()) { named_barrier(id, threads, false, site); }

// Rounds to tf32 as cvt.rna does: to nearest, ties away from zero.
inline uint32_t to_tf32(float value) {
  const uint32_t bits = bits_of(value);
  return (bits & 0x7F800000u) == 0x7F800000u ? bits : (bits + 0x1000u) & ~0x1FFFu;
}

inline void prefetch(const void*) {}

inline float exp2_approx(float x) { return std::exp2(x); }

template <typename T>
inline uint64_t to_word(T value) {
  static_assert(sizeof(T) <= 8, "shuffles move up to 8 bytes");
  uint64_t word = 0;
  std::memcpy(&word, &value, sizeof value);
  return word;
}

template <typename T>
inline T from_word(uint64_t word) {
  T value;
  std::memcpy(static_cast<void*>(&value), &word, sizeof value);
  return value;
}

template <typename T>
constexpr char type_letter() {
  if constexpr (std::is_same_v<T, float> || std::is_same_v<T, double>) return 'f';
  return std::is_signed_v<T> ? 's' : 'u';
}

template <typename T>
inline T atomic(AtomicKind kind, T* address, T operand, T compare = T()) {
  if constexpr (sizeof(T) == 4) {
    const auto old = atomic_word(kind, address, static_cast<uint32_t>(to_word(operand)),
                                 static_cast<uint32_t>(to_word(compare)), type_letter<T>());
    return from_word<T>(old);
  } else {
    return from_word<T>(atomic_double_word(kind, address, to_word(operand), to_word(compare), type_letter<T>()));
  }
}

}  // namespace simt

#define threadIdx (simt::thread_index())
#define blockIdx (simt::block_index())
#define blockDim (simt::block_size())
#define gridDim (simt::grid_size())
constexpr int warpSize = 32;

inline void __syncthreads(simt::Site site = simt::Site::here()) {
  simt::block_barrier(simt::BarrierKind::plain, 0, site);
}
inline int __syncthreads_count(int predicate, simt::Site site = simt::Site::here()) {
  return simt::block_barrier(simt::BarrierKind::count, predicate, site);
}
inline int __syncthreads_and(int predicate, simt::Site site = simt::Site::here()) {
  return simt::block_barrier(simt::BarrierKind::conjunction, predicate, site);
}
inline int __syncthreads_or(int predicate, simt::Site site = simt::Site::here()) {
  return simt::block_barrier(simt::BarrierKind::disjunction, predicate, site);
}

inline void __syncwarp(uint32_t mask = 0xFFFFFFFFu, simt::Site site = simt::Site::here()) {
  simt::warp_barrier(mask, site);
}
inline uint32_t __activemask() { return simt::active_mask(); }
inline void __threadfence() { simt::memory_fence(false); }
inline void __threadfence_block() { simt::memory_fence(true); }

#define SIMT_SHUFFLE(name, kind, argument)                                                                           \
  template <typename T>                                                                                              \
  inline T name(uint32_t mask, T value, argument operand, int width = 32, simt::Site site = simt::Site::here()) {    \
    return simt::from_word<T>(                                                                                       \
        simt::shuffle(simt::ShuffleKind::kind, mask, simt::to_word(value), static_cast<int>(operand), width, site)); \
  }
SIMT_SHUFFLE(__shfl_sync, index, int)
SIMT_SHUFFLE(__shfl_up_sync, up, unsigned)
SIMT_SHUFFLE(__shfl_down_sync, down, unsigned)
SIMT_SHUFFLE(__shfl_xor_sync, exclusive_or, int)
#undef SIMT_SHUFFLE

inline uint32_t __ballot_sync(uint32_t mask, int predicate, simt::Site site = simt::Site::here()) {
  return simt::vote(simt::Vote::ballot, mask, predicate != 0, site);
}
inline int __any_sync(uint32_t mask, int predicate, simt::Site site = simt::Site::here()) {
  return static_cast<int>(simt::vote(simt::Vote::any, mask, predicate != 0, site));
}
inline int __all_sync(uint32_t mask, int predicate, simt::Site site = simt::Site::here()) {
  return static_cast<int>(simt::vote(simt::Vote::all, mask, predicate != 0, site));
}

#define SIMT_REDUCE(name, kind, type)                                                                       \
  inline type name(uint32_t mask, type value, simt::Site site = simt::Site::here()) {                       \
    return static_cast<type>(simt::reduce(simt::Reduction::kind, mask, static_cast<int64_t>(value), site)); \
  }
SIMT_REDUCE(__reduce_add_sync, add, int)
SIMT_REDUCE(__reduce_add_sync, add, unsigned)
SIMT_REDUCE(__reduce_min_sync, minimum, int)
SIMT_REDUCE(__reduce_min_sync, minimum, unsigned)
SIMT_REDUCE(__reduce_max_sync, maximum, int)
SIMT_REDUCE(__reduce_max_sync, maximum, unsigned)
SIMT_REDUCE(__reduce_and_sync, bit_and, unsigned)
SIMT_REDUCE(__reduce_or_sync, bit_or, unsigned)
SIMT_REDUCE(__reduce_xor_sync, bit_xor, unsigned)
#undef SIMT_REDUCE

#define SIMT_ATOMIC(name, kind, type) \
  inline type name(type* address, type value) { return simt::atomic(simt::AtomicKind::kind, address, value); }
SIMT_ATOMIC(atomicAdd, add, int)
SIMT_ATOMIC(atomicAdd, add, unsigned)
SIMT_ATOMIC(atomicAdd, add, unsigned long long)
SIMT_ATOMIC(atomicAdd, add, float)
SIMT_ATOMIC(atomicAdd, add, double)
SIMT_ATOMIC(atomicMin, minimum, int)
SIMT_ATOMIC(atomicMin, minimum, unsigned)
SIMT_ATOMIC(atomicMax, maximum, int)
SIMT_ATOMIC(atomicMax, maximum, unsigned)
SIMT_ATOMIC(atomicAnd, bit_and, unsigned)
SIMT_ATOMIC(atomicOr, bit_or, unsigned)
SIMT_ATOMIC(atomicExch, exchange, int)
SIMT_ATOMIC(atomicExch, exchange, unsigned)
SIMT_ATOMIC(atomicExch, exchange, float)
#undef SIMT_ATOMIC
inline int atomicCAS(int* address, int compare, int value) {
  return simt::atomic(simt::AtomicKind::compare_and_swap, address, value, compare);
}
inline unsigned atomicCAS(unsigned* address, unsigned compare, unsigned value) {
  return simt::atomic(simt::AtomicKind::compare_and_swap, address, value, compare);
}
inline unsigned long long atomicCAS(unsigned long long* address, unsigned long long compare, unsigned long long value) {
  return simt::atomic(simt::AtomicKind::compare_and_swap, address, value, compare);
}
