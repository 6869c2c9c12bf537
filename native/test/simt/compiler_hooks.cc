// Kernels are compiled with -fsanitize=thread: the compiler then calls the functions below before every load and store
// that may reach memory of others, and -fsanitize=alignment,bounds calls the handlers at the end where a pointer or an
// index is wrong. Neither sanitizer's own library is linked; this file takes its place.
#include <cstddef>
#include <cstdint>

#include "simt/checks.h"

namespace simt {

static inline void hook(const void* address, size_t bytes, size_t alignment, Access access, const void* place) {
  Block* block = current_block();
  if (block == nullptr) return;  // the host's own code
  const Thread& thread = block->self();
  const uintptr_t from_stack =
      reinterpret_cast<uintptr_t>(address) - reinterpret_cast<uintptr_t>(thread.fiber.stack_bottom);
  if (from_stack < kStackBytes) return;
  check_access(*block, thread, address, bytes, alignment, access, nullptr, place);
}

static void report(const char* file, uint32_t line, FaultKind kind, const char* text) {
  Block* block = current_block();
  if (block != nullptr) block->fail(kind, block->self(), "%s at %s:%u", text, file, line);
}

}  // namespace simt

using simt::Access;

#define SIMT_PLACE __builtin_return_address(0)
#define SIMT_HOOKS(bytes)                                                                                              \
  extern "C" void __tsan_read##bytes(void* address) { simt::hook(address, bytes, bytes, Access::read, SIMT_PLACE); }   \
  extern "C" void __tsan_write##bytes(void* address) { simt::hook(address, bytes, bytes, Access::write, SIMT_PLACE); } \
  extern "C" void __tsan_unaligned_read##bytes(void* address) {                                                        \
    simt::hook(address, bytes, 1, Access::read, SIMT_PLACE);                                                           \
  }                                                                                                                    \
  extern "C" void __tsan_unaligned_write##bytes(void* address) {                                                       \
    simt::hook(address, bytes, 1, Access::write, SIMT_PLACE);                                                          \
  }                                                                                                                    \
  extern "C" void __tsan_read_write##bytes(void* address) {                                                            \
    simt::hook(address, bytes, bytes, Access::write, SIMT_PLACE);                                                      \
  }
SIMT_HOOKS(1)
SIMT_HOOKS(2)
SIMT_HOOKS(4)
SIMT_HOOKS(8)
SIMT_HOOKS(16)

// std::atomic and guards of static variables in host code beside the kernels; kernels have atomicAdd and the like.
#define SIMT_ATOMICS(bits)                                                                                          \
  extern "C" uint##bits##_t __tsan_atomic##bits##_load(const volatile uint##bits##_t* address, int) {               \
    return __atomic_load_n(address, __ATOMIC_SEQ_CST);                                                              \
  }                                                                                                                 \
  extern "C" void __tsan_atomic##bits##_store(volatile uint##bits##_t* address, uint##bits##_t value, int) {        \
    __atomic_store_n(address, value, __ATOMIC_SEQ_CST);                                                             \
  }                                                                                                                 \
  extern "C" uint##bits##_t __tsan_atomic##bits##_fetch_add(volatile uint##bits##_t* address, uint##bits##_t value, \
                                                            int) {                                                  \
    return __atomic_fetch_add(address, value, __ATOMIC_SEQ_CST);                                                    \
  }                                                                                                                 \
  extern "C" int __tsan_atomic##bits##_compare_exchange_strong(                                                     \
      volatile uint##bits##_t* address, uint##bits##_t* expected, uint##bits##_t value, int, int) {                 \
    return __atomic_compare_exchange_n(address, expected, value, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);        \
  }
SIMT_ATOMICS(8)
SIMT_ATOMICS(32)
SIMT_ATOMICS(64)

extern "C" {
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_read(void**) {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_read_range(void* address, size_t bytes) { simt::hook(address, bytes, 1, Access::read, SIMT_PLACE); }
void __tsan_write_range(void* address, size_t bytes) { simt::hook(address, bytes, 1, Access::write, SIMT_PLACE); }

// Clang's copies of structures.
void* __tsan_memcpy(void* to, const void* from, size_t bytes) {
  simt::hook(from, bytes, 1, Access::read, SIMT_PLACE);
  simt::hook(to, bytes, 1, Access::write, SIMT_PLACE);
  return __builtin_memcpy(to, from, bytes);
}
void* __tsan_memset(void* to, int value, size_t bytes) {
  simt::hook(to, bytes, 1, Access::write, SIMT_PLACE);
  return __builtin_memset(to, value, bytes);
}

// The beginnings of what the compilers hand to the handlers of UndefinedBehaviorSanitizer.
struct SourceLocation {
  const char* file;
  uint32_t line, column;
};

void __ubsan_handle_type_mismatch_v1_abort(SourceLocation* location, uintptr_t) {
  simt::report(location->file, location->line, simt::FaultKind::misaligned, "an address less aligned than its type");
}
void __ubsan_handle_out_of_bounds_abort(SourceLocation* location, uintptr_t) {
  simt::report(location->file, location->line, simt::FaultKind::out_of_bounds, "an index beyond its array");
}
}
