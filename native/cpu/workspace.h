// Scratch memory of the operator that runs now: a bump allocator over few large blocks, emptied after every operator.
// Used by the stream's worker only: take what a parallel loop needs, for all its workers, before the loop starts.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace xlformers::cpu {

class Workspace {
  struct Block;

 public:
  Workspace() = default;
  ~Workspace();
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  // 64-byte aligned, uninitialised. Throws std::bad_alloc, also when count * sizeof(T) overflows.
  template <typename T>
  T* allocate(int64_t count) {
    return static_cast<T*>(allocate_bytes(count, sizeof(T)));
  }

  // release(mark()) forgets what was allocated in between: an operator that works in chunks, calling other kernels for each, holds the
  // memory of one chunk only. Marks nest; reset() invalidates them.
  struct Mark {
    Block* block;  // the block that allocations came from; null: nothing was allocated
    int64_t used;  // bytes taken from it
  };
  Mark mark() const;
  void release(Mark mark);

  // Forgets all allocations. Keeps the memory for the next operator, but gives back what is far more than recent operators used.
  void reset();

  int64_t bytes() const { return bytes_.load(std::memory_order_relaxed); }  // held from the system
  int64_t peak_bytes() const { return peak_.load(std::memory_order_relaxed); }
  void reset_peak() { peak_.store(bytes(), std::memory_order_relaxed); }

 private:
  void* allocate_bytes(int64_t count, size_t size);
  void push_block(int64_t at_least);
  void drop_top();

  int64_t used_bytes() const;

  Block* blocks_ = nullptr;
  int64_t most_used_ = 0;  // bytes allocated at the same time, at most, since the last reset
  int64_t recent_ = 0;     // the same of recent operators: the largest, fading slowly
  std::atomic<int64_t> bytes_{0};
  std::atomic<int64_t> peak_{0};
};

}  // namespace xlformers::cpu
