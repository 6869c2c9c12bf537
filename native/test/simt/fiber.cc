#include "simt/fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <new>

#if defined(SIMT_ADDRESS_SANITIZER)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if defined(__APPLE__)
#define SIMT_SYMBOL(name) "_" name
#else
#define SIMT_SYMBOL(name) name
#endif

// void simt_switch_stack(void** save, void* load): pushes what the calling convention lets a callee not change, stores
// the stack pointer in *save, takes over `load` and pops.
extern "C" void simt_switch_stack(void** save, void* load);

#if defined(__x86_64__)
asm(".text\n"
    ".globl " SIMT_SYMBOL("simt_switch_stack") "\n"
    SIMT_SYMBOL("simt_switch_stack") ":\n"
    "  pushq %rbp\n"
    "  pushq %rbx\n"
    "  pushq %r12\n"
    "  pushq %r13\n"
    "  pushq %r14\n"
    "  pushq %r15\n"
    "  movq %rsp, (%rdi)\n"
    "  movq %rsi, %rsp\n"
    "  popq %r15\n"
    "  popq %r14\n"
    "  popq %r13\n"
    "  popq %r12\n"
    "  popq %rbx\n"
    "  popq %rbp\n"
    "  ret\n");
// Seven words; after the return, 8 bytes below an aligned address, as after a call.
static constexpr int kSavedWords = 8;
static constexpr int kEntryWord = 6;
#elif defined(__aarch64__)
asm(".text\n"
    ".globl " SIMT_SYMBOL("simt_switch_stack") "\n"
    ".balign 4\n"
    SIMT_SYMBOL("simt_switch_stack") ":\n"
    "  sub sp, sp, #160\n"
    "  stp x19, x20, [sp, #0]\n"
    "  stp x21, x22, [sp, #16]\n"
    "  stp x23, x24, [sp, #32]\n"
    "  stp x25, x26, [sp, #48]\n"
    "  stp x27, x28, [sp, #64]\n"
    "  stp x29, x30, [sp, #80]\n"
    "  stp d8, d9, [sp, #96]\n"
    "  stp d10, d11, [sp, #112]\n"
    "  stp d12, d13, [sp, #128]\n"
    "  stp d14, d15, [sp, #144]\n"
    "  mov x9, sp\n"
    "  str x9, [x0]\n"
    "  mov sp, x1\n"
    "  ldp x19, x20, [sp, #0]\n"
    "  ldp x21, x22, [sp, #16]\n"
    "  ldp x23, x24, [sp, #32]\n"
    "  ldp x25, x26, [sp, #48]\n"
    "  ldp x27, x28, [sp, #64]\n"
    "  ldp x29, x30, [sp, #80]\n"
    "  ldp d8, d9, [sp, #96]\n"
    "  ldp d10, d11, [sp, #112]\n"
    "  ldp d12, d13, [sp, #128]\n"
    "  ldp d14, d15, [sp, #144]\n"
    "  add sp, sp, #160\n"
    "  ret\n");
static constexpr int kSavedWords = 20;
static constexpr int kEntryWord = 11;  // x30
#else
#error "simt: no stack switch for this processor: x86-64 and aarch64 have one"
#endif

namespace simt {

Stacks::Stacks(int count) : count_(count) {
  const size_t bytes = static_cast<size_t>(count) * kStackBytes;
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  memory_ = static_cast<char*>(memory);
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  for (int index = 0; index < count; ++index) mprotect(bottom(index), page, PROT_NONE);
}

Stacks::~Stacks() { munmap(memory_, static_cast<size_t>(count_) * kStackBytes); }

void Stacks::prepare(Fiber* fiber, int index, void (*entry)()) const {
  char* stack = bottom(index);
#if defined(SIMT_ADDRESS_SANITIZER)
  __asan_unpoison_memory_region(stack, kStackBytes);  // frames of the fiber that was here before never returned
#endif
  const size_t colour = static_cast<size_t>(index % 32) * 17 % 64 * 64;
  void** words = reinterpret_cast<void**>(stack + kStackBytes - 64 - colour) - kSavedWords;
  for (int word = 0; word < kSavedWords; ++word) words[word] = nullptr;
  words[kEntryWord] = reinterpret_cast<void*>(entry);
  *fiber = Fiber();
  fiber->stack_pointer = words;
  fiber->stack_bottom = stack;
  fiber->stack_bytes = kStackBytes;
}

void switch_fiber(Fiber* from, Fiber* to) {
#if defined(SIMT_ADDRESS_SANITIZER)
  __sanitizer_start_switch_fiber(&from->fake_stack, to->stack_bottom, to->stack_bytes);
#endif
  simt_switch_stack(&from->stack_pointer, to->stack_pointer);
#if defined(SIMT_ADDRESS_SANITIZER)
  __sanitizer_finish_switch_fiber(from->fake_stack, nullptr, nullptr);
#endif
}

void fiber_started(Fiber* fiber, Fiber* host) {
#if defined(SIMT_ADDRESS_SANITIZER)
  const void* bottom;
  size_t bytes;
  __sanitizer_finish_switch_fiber(fiber->fake_stack, &bottom, &bytes);
  if (host->stack_bottom == nullptr) {
    host->stack_bottom = bottom;
    host->stack_bytes = bytes;
  }
#else
  static_cast<void>(fiber);
  static_cast<void>(host);
#endif
}

}  // namespace simt
