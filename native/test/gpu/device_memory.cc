// Memory that tests and kernels both reach: a GPU's managed memory in the place of the emulator's. What is read before anybody wrote it is
// NaN. The device writes those, as compute-sanitizer's initcheck, which is for the operators' scratch memory, does not see what the host
// writes.
#include "simt/device_memory.h"

#include <cuda_runtime.h>

#include <stdexcept>

#include "simt/fault.h"

namespace simt {

void* allocate(size_t bytes) {
  void* memory = nullptr;
  cudaError_t error = cudaMallocManaged(&memory, bytes == 0 ? 1 : bytes);
  if (error == cudaSuccess) error = cudaMemset(memory, 0xFF, bytes);
  if (error == cudaSuccess) error = cudaDeviceSynchronize();
  if (error != cudaSuccess) throw std::runtime_error(cudaGetErrorString(error));
  return memory;
}

void release(void* address) { cudaFree(address); }
void mark_initialized(void*, size_t) {}
void set_read_only(void*, bool) {}

const char* fault_name(FaultKind) { return "a report of the emulator"; }

}  // namespace simt
