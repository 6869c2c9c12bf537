#include "cuda/workspace.h"

#include <algorithm>
#include <new>

#include "core/shape.h"
#include "cuda/runtime.h"

namespace xlformers::cuda {
namespace {

constexpr int64_t kAlignment = 256;
constexpr int64_t kSmallestBlock = int64_t{4} << 20;

}  // namespace

Workspace::~Workspace() {
  for (const Block& block : blocks_) runtime::deallocate(block.memory);
}

void* Workspace::allocate_bytes(int64_t count, size_t size) {
  int64_t bytes = 0;
  if (!checked_multiply(count, static_cast<int64_t>(size), &bytes) || !checked_add(bytes, kAlignment - 1, &bytes)) {
    throw std::bad_alloc();
  }
  bytes = bytes / kAlignment * kAlignment;
  if (blocks_.empty() || blocks_.back().capacity - blocks_.back().used < bytes) {
    int64_t capacity = std::max({bytes, bytes_, kSmallestBlock});
    auto* memory = static_cast<char*>(runtime::allocate(static_cast<size_t>(capacity)));
    if (memory == nullptr && capacity > bytes) {
      capacity = bytes;
      memory = static_cast<char*>(runtime::allocate(static_cast<size_t>(capacity)));
    }
    if (memory == nullptr) throw std::bad_alloc();
    blocks_.push_back({memory, capacity, 0});
    bytes_ += capacity;
    peak_ = std::max(peak_, bytes_);
  }
  Block& block = blocks_.back();
  void* const result = block.memory + block.used;
  block.used += bytes;
  return result;
}

void Workspace::reset() {
  if (!blocks_.empty()) blocks_.back().used = 0;
}

// A block that was added since the mark holds nothing older than it.
void Workspace::release(const Mark& mark) {
  if (!blocks_.empty()) blocks_.back().used = blocks_.size() == mark.blocks ? mark.used : 0;
}

}  // namespace xlformers::cuda
