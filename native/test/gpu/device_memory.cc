// Memory that tests and kernels both reach: a GPU's managed memory in the place of the emulator's. What is read before anybody wrote it is
// found by compute-sanitizer.
#include "simt/device_memory.h"

#include <cuda_runtime.h>

#include <new>

#include "simt/fault.h"

namespace simt {

void* allocate(size_t bytes) {
  void* memory = nullptr;
  if (cudaMallocManaged(&memory, bytes == 0 ? 1 : bytes) != cudaSuccess) throw std::bad_alloc();
  std::memset(memory, 0xFF, bytes);
  return memory;
}

void release(void* address) { cudaFree(address); }
void mark_initialized(void*, size_t) {}
void set_read_only(void*, bool) {}

const char* fault_name(FaultKind) { return "a report of the emulator"; }

}  // namespace simt
