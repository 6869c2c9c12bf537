// Switching between stacks: what a CUDA thread runs on. No system call, unlike swapcontext, which saves the signal
// mask.
#pragma once

#include <cstddef>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SIMT_ADDRESS_SANITIZER 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define SIMT_ADDRESS_SANITIZER 1
#endif

namespace simt {

#if defined(SIMT_ADDRESS_SANITIZER)
constexpr size_t kStackBytes = 256 * 1024;  // red zones around every variable
#else
constexpr size_t kStackBytes = 64 * 1024;
#endif

struct Fiber {
  void* stack_pointer = nullptr;
  // Known to AddressSanitizer only.
  void* fake_stack = nullptr;
  const void* stack_bottom = nullptr;
  size_t stack_bytes = 0;
};

// Stacks for `count` fibers, each above a page that may not be touched. Their tops lie at different distances from a
// page's end: else the frames of all fibers would compete for the same few lines of the cache.
class Stacks {
 public:
  explicit Stacks(int count);
  ~Stacks();
  Stacks(const Stacks&) = delete;
  Stacks& operator=(const Stacks&) = delete;

  char* bottom(int index) const { return memory_ + static_cast<size_t>(index) * kStackBytes; }
  int count() const { return count_; }
  // A fiber that calls entry() when first switched to; entry never returns.
  void prepare(Fiber* fiber, int index, void (*entry)()) const;

 private:
  char* memory_;
  int count_;
};

// Saves where the caller is in `from` and goes on where `to` was left.
void switch_fiber(Fiber* from, Fiber* to);
// The first thing that a fiber's entry does. `host`: the stack that the first fiber of all was switched to from.
void fiber_started(Fiber* fiber, Fiber* host);

}  // namespace simt
