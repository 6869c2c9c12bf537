// Pinned host memory for transfers, in two sizes, used again and again.
#pragma once

#include <cstddef>
#include <mutex>
#include <vector>

namespace xlformers::cuda {

class PinnedPool {
 public:
  // Transfers are cut into pieces of this size: large enough for the bus, small enough to keep many.
  static constexpr size_t kPieceBytes = size_t{4} << 20;

  PinnedPool() = default;
  // Nothing may be in use.
  ~PinnedPool();
  PinnedPool(const PinnedPool&) = delete;
  PinnedPool& operator=(const PinnedPool&) = delete;

  // At least `bytes`, kPieceBytes at most; null when there is none left.
  void* take(size_t bytes);
  // By any thread. `bytes` as taken.
  void give(void* memory, size_t bytes);

  // Large pieces in use. Host memory that is pinned is memory that others lack: the caller waits beyond some.
  int large_in_use();

 private:
  static constexpr size_t kSmallBytes = size_t{64} << 10;

  struct Class {
    std::vector<void*> free, all;
  };

  Class& class_of(size_t bytes) { return bytes <= kSmallBytes ? small_ : large_; }

  std::mutex mutex_;
  Class small_, large_;
};

}  // namespace xlformers::cuda
