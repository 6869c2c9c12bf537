// Is an access to memory allowed? Asked for every load and store of kernels compiled with the checks
// (compiler_hooks.cc), and for the accesses of instructions that the emulator executes itself.
#pragma once

#include <cstddef>
#include <cstdint>

#include "simt/block.h"

namespace simt {

// `what`: the instruction, for reports; `place`: an address in the code, or null.
void check_access(Block& block, const Thread& thread, const void* address, size_t bytes, size_t alignment,
                  Access access, const char* what, const void* place);
// A cp.async begins or ends to write `bytes` at `address`, which the thread was allowed to.
void begin_async_write(Block& block, const Thread& thread, const void* address, size_t bytes);
void end_async_write(Block& block, const Thread& thread, const void* address, size_t bytes);

}  // namespace simt
