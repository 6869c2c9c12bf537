#include "cuda/pinned_pool.h"

#include "cuda/runtime.h"

namespace xlformers::cuda {

PinnedPool::~PinnedPool() {
  for (Class* pieces : {&small_, &large_}) {
    for (void* memory : pieces->all) runtime::deallocate_pinned(memory);
  }
}

void* PinnedPool::take(size_t bytes) {
  std::lock_guard<std::mutex> lock(mutex_);
  Class& pieces = class_of(bytes);
  if (pieces.free.empty()) {
    void* const memory = runtime::allocate_pinned(bytes <= kSmallBytes ? kSmallBytes : kPieceBytes);
    if (memory != nullptr) pieces.all.push_back(memory);
    return memory;
  }
  void* const memory = pieces.free.back();
  pieces.free.pop_back();
  return memory;
}

void PinnedPool::give(void* memory, size_t bytes) {
  std::lock_guard<std::mutex> lock(mutex_);
  class_of(bytes).free.push_back(memory);
}

int PinnedPool::large_in_use() {
  std::lock_guard<std::mutex> lock(mutex_);
  return static_cast<int>(large_.all.size() - large_.free.size());
}

}  // namespace xlformers::cuda
