#include "cpu/workspace.h"

#include <new>

#include "core/shape.h"
#include "cpu/large_memory.h"

namespace xlformers::cpu {

struct Workspace::Block {
  Block* below;  // older, full enough; allocations come from the top block
  int64_t capacity;
  int64_t used;
  char* memory;
};

namespace {

constexpr int64_t kSmallestBlock = int64_t{1} << 20;
// A block this many times larger than what recent operators used is given back.
constexpr int64_t kTolerance = 16;
// What an operator used fades by one part in this many with every operator after it. A training step alternates operators that
// use megabytes with operators that use nothing; its memory must outlast the latter.
constexpr int64_t kMemory = 256;

}  // namespace

Workspace::~Workspace() {
  while (blocks_ != nullptr) drop_top();
}

void* Workspace::allocate_bytes(int64_t count, size_t size) {
  int64_t bytes = 0;
  if (!checked_multiply(count, static_cast<int64_t>(size), &bytes) || !checked_add(bytes, 63, &bytes)) {
    throw std::bad_alloc();
  }
  bytes = bytes / 64 * 64;
  if (blocks_ == nullptr || blocks_->capacity - blocks_->used < bytes) push_block(bytes);
  void* result = blocks_->memory + blocks_->used;
  blocks_->used += bytes;
  const int64_t used = used_bytes();
  if (used > most_used_) most_used_ = used;
  return result;
}

int64_t Workspace::used_bytes() const {
  int64_t used = 0;
  for (const Block* block = blocks_; block != nullptr; block = block->below) used += block->used;
  return used;
}

void Workspace::push_block(int64_t at_least) {
  // Doubling keeps the number of blocks, and of merges in reset(), small.
  int64_t capacity = bytes() > kSmallestBlock ? bytes() : kSmallestBlock;
  if (capacity < at_least) capacity = at_least;
  char* memory = static_cast<char*>(allocate_memory(static_cast<size_t>(capacity)));
  if (memory == nullptr && capacity > at_least) {
    capacity = at_least;
    memory = static_cast<char*>(allocate_memory(static_cast<size_t>(capacity)));
  }
  if (memory == nullptr) throw std::bad_alloc();
  blocks_ = new Block{blocks_, capacity, 0, memory};
  const int64_t held = bytes_.fetch_add(capacity, std::memory_order_relaxed) + capacity;
  if (held > peak_.load(std::memory_order_relaxed)) peak_.store(held, std::memory_order_relaxed);
}

void Workspace::drop_top() {
  Block* const top = blocks_;
  blocks_ = top->below;
  bytes_.fetch_sub(top->capacity, std::memory_order_relaxed);
  free_memory(top->memory);
  delete top;
}

Workspace::Mark Workspace::mark() const { return {blocks_, blocks_ == nullptr ? 0 : blocks_->used}; }

void Workspace::release(Mark mark) {
  if (mark.block == nullptr) {
    // Nothing was held at the mark: keep the newest, largest block for what comes next.
    if (blocks_ == nullptr) return;
    while (blocks_->below != nullptr) {
      Block* const older = blocks_->below;
      blocks_->below = older->below;
      bytes_.fetch_sub(older->capacity, std::memory_order_relaxed);
      free_memory(older->memory);
      delete older;
    }
    blocks_->used = 0;
    return;
  }
  while (blocks_ != mark.block) drop_top();
  blocks_->used = mark.used;
}

void Workspace::reset() {
  if (blocks_ == nullptr) return;
  // What was released in between counts as well: otherwise an operator that works in chunks would get a new block for each of them.
  const int64_t used = most_used_;
  most_used_ = 0;
  recent_ -= recent_ / kMemory;
  if (used > recent_) recent_ = used;
  const bool fragmented = blocks_->below != nullptr || blocks_->capacity < used;
  const bool oversized = blocks_->capacity > kSmallestBlock && blocks_->capacity / kTolerance > recent_;
  if (!fragmented && !oversized) {
    blocks_->used = 0;
    return;
  }
  // Start again with one block of what is needed; the next operator of this size then fits without another allocation.
  while (blocks_ != nullptr) drop_top();
  try {
    push_block(recent_);
  } catch (const std::bad_alloc&) {
    // Nothing is lost: the next allocation tries again and reports.
  }
}

}  // namespace xlformers::cpu
