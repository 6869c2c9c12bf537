// Scratch memory on the device for the operator that is being enqueued: a bump allocator. Since a stream runs in order, the next
// operator may have the same memory at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/status.h"

namespace xlformers::cuda {

class Workspace {
 public:
  Workspace() = default;
  // The stream must have ended.
  ~Workspace();
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  // 256-byte aligned, uninitialised. Throws std::bad_alloc, also when count * sizeof(T) overflows.
  template <typename T>
  T* allocate(int64_t count) {
    return static_cast<T*>(allocate_bytes(count, sizeof(T)));
  }

  // Forgets all allocations and keeps the memory.
  void reset();

  // An operator that calls others gives back what they took: kernels enqueued later may have it at once.
  struct Mark {
    size_t blocks;
    int64_t used;
  };
  Mark mark() const { return {blocks_.size(), blocks_.empty() ? 0 : blocks_.back().used}; }
  void release(const Mark& mark);

  int64_t bytes() const { return bytes_; }
  int64_t peak_bytes() const { return peak_; }
  void reset_peak() { peak_ = bytes_; }

 private:
  struct Block {
    char* memory;
    int64_t capacity, used;
  };

  void* allocate_bytes(int64_t count, size_t size);

  // The last one serves; the others are full. Operators that run may still use them, so they are kept until the end: each block is
  // as large as all before it together, which bounds the waste.
  std::vector<Block> blocks_;
  int64_t bytes_ = 0, peak_ = 0;
};

}  // namespace xlformers::cuda
