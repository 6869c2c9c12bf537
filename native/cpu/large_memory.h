// Raw memory for tensors and scratch: aligned for vectors, and on huge pages where it is large, which spares most TLB misses.
#pragma once

#include <cstddef>
#include <cstdlib>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace xlformers::cpu {

constexpr size_t kMemoryAlignment = 64;
constexpr size_t kHugePage = size_t{2} << 20;

// Null when there is none left.
inline void* allocate_memory(size_t bytes) {
  const bool large = bytes >= 2 * kHugePage;
  const size_t alignment = large ? kHugePage : kMemoryAlignment;
  if (bytes > SIZE_MAX - alignment) return nullptr;
  const size_t rounded = (bytes + alignment - 1) / alignment * alignment;
  void* memory = std::aligned_alloc(alignment, rounded == 0 ? alignment : rounded);
#if defined(__linux__)
  if (memory != nullptr && large) madvise(memory, rounded, MADV_HUGEPAGE);
#endif
  return memory;
}

inline void free_memory(void* memory) { std::free(memory); }

}  // namespace xlformers::cpu
