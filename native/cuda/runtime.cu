// The runtime by cudart, linked statically: it loads without a driver, and says why no device can be had.
#include "cuda/runtime.h"

#include <cuda_runtime.h>

#include <cstdio>
#include <cstring>

namespace xlformers::cuda::runtime {
namespace {

// `what` was tried.
Status status_of(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return ok_status();
  // Errors that kernels left behind stay with the context; those of this call must not show up in the next.
  cudaGetLastError();
  const StatusCode code = error == cudaErrorMemoryAllocation ? StatusCode::out_of_memory : StatusCode::device;
  return make_status(code, "%s: %s (%s)", what, cudaGetErrorString(error), cudaGetErrorName(error));
}

int attribute(cudaDeviceAttr which, int32_t device) {
  int value = 0;
  cudaDeviceGetAttribute(&value, which, device);
  return value;
}

}  // namespace

int32_t device_count(Status* why_none) {
  int count = 0;
  int driver = 0;
  cudaDriverGetVersion(&driver);
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaSuccess && count > 0) return count;
  cudaGetLastError();
  if (driver == 0) {
    *why_none = make_status(StatusCode::device, "no NVIDIA driver is installed");
  } else if (driver < CUDART_VERSION / 1000 * 1000) {
    *why_none = make_status(StatusCode::device, "the NVIDIA driver is too old: it serves CUDA %d.%d, and CUDA %d needs driver %s or newer",
                            driver / 1000, driver % 1000 / 10, CUDART_VERSION / 1000, CUDART_VERSION >= 13000 ? "580" : "525");
  } else {
    *why_none = make_status(StatusCode::device, "no CUDA device: %s", error == cudaSuccess ? "there is none" : cudaGetErrorString(error));
  }
  return 0;
}

Status device_info(int32_t device, DeviceInfo* info) {
  cudaDeviceProp properties;
  const Status status = status_of(cudaGetDeviceProperties(&properties, device), "reading the properties of the device");
  if (!status.ok()) return status;
  *info = DeviceInfo{};
  std::snprintf(info->name, sizeof info->name, "%s", properties.name);
  int driver = 0;
  cudaDriverGetVersion(&driver);
  std::snprintf(info->detail, sizeof info->detail, "compute capability %d.%d, %d multiprocessors, CUDA %d.%d", properties.major,
                properties.minor, properties.multiProcessorCount, driver / 1000, driver % 1000 / 10);
  info->memory_bytes = static_cast<int64_t>(properties.totalGlobalMem);
  return status;
}

Status device_properties(int32_t device, DeviceProperties* properties) {
  size_t free_bytes = 0, total_bytes = 0;
  const Status status = status_of(cudaMemGetInfo(&free_bytes, &total_bytes), "asking for the memory of the device");
  properties->compute_capability =
      10 * attribute(cudaDevAttrComputeCapabilityMajor, device) + attribute(cudaDevAttrComputeCapabilityMinor, device);
  properties->multiprocessors = attribute(cudaDevAttrMultiProcessorCount, device);
  properties->shared_bytes_per_block = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  properties->memory_bytes = static_cast<int64_t>(total_bytes);
  properties->ordinal = device;
  return status;
}

Status make_current(int32_t device) { return status_of(cudaSetDevice(device), "selecting the device"); }

Status create_stream(void** stream) {
  cudaStream_t created = nullptr;
  const Status status = status_of(cudaStreamCreateWithFlags(&created, cudaStreamNonBlocking), "creating a stream");
  *stream = created;
  return status;
}

void destroy_stream(void* stream) {
  cudaStreamSynchronize(static_cast<cudaStream_t>(stream));
  cudaStreamDestroy(static_cast<cudaStream_t>(stream));
}

void* allocate(size_t bytes) {
  void* memory = nullptr;
  if (cudaMalloc(&memory, bytes == 0 ? 1 : bytes) == cudaSuccess) return memory;
  cudaGetLastError();
  return nullptr;
}

void deallocate(void* memory) { cudaFree(memory); }

void* allocate_pinned(size_t bytes) {
  void* memory = nullptr;
  if (cudaMallocHost(&memory, bytes) == cudaSuccess) return memory;
  cudaGetLastError();
  return nullptr;
}

void deallocate_pinned(void* memory) { cudaFreeHost(memory); }

Status copy_to_device(void* stream, void* destination, const void* pinned, size_t bytes) {
  return status_of(cudaMemcpyAsync(destination, pinned, bytes, cudaMemcpyHostToDevice, static_cast<cudaStream_t>(stream)), "upload");
}

Status copy_to_host(void* stream, void* pinned, const void* source, size_t bytes) {
  return status_of(cudaMemcpyAsync(pinned, source, bytes, cudaMemcpyDeviceToHost, static_cast<cudaStream_t>(stream)), "read");
}

Status synchronize(void* stream) { return status_of(cudaStreamSynchronize(static_cast<cudaStream_t>(stream)), "waiting for the device"); }

Status clear(void* stream, void* memory, size_t bytes) {
  return status_of(cudaMemsetAsync(memory, 0, bytes, static_cast<cudaStream_t>(stream)), "clearing memory");
}

Status create_event(void** event) {
  cudaEvent_t created = nullptr;
  const Status status =
      status_of(cudaEventCreateWithFlags(&created, cudaEventDisableTiming | cudaEventBlockingSync), "creating an event");
  *event = created;
  return status;
}

void destroy_event(void* event) { cudaEventDestroy(static_cast<cudaEvent_t>(event)); }

Status record_event(void* event, void* stream) {
  return status_of(cudaEventRecord(static_cast<cudaEvent_t>(event), static_cast<cudaStream_t>(stream)), "recording an event");
}

Status wait_for_event(void* event) {
  return status_of(cudaEventSynchronize(static_cast<cudaEvent_t>(event)), "running what was enqueued");
}

// Relaxed: memory may be allocated meanwhile, by this stream's operators and by other threads.
Status begin_capture(void* stream) {
  return status_of(cudaStreamBeginCapture(static_cast<cudaStream_t>(stream), cudaStreamCaptureModeRelaxed), "beginning a recording");
}

Status end_capture(void* stream, void** graph) {
  cudaGraph_t captured = nullptr;
  cudaGraphExec_t executable = nullptr;
  Status status = status_of(cudaStreamEndCapture(static_cast<cudaStream_t>(stream), &captured), "ending a recording");
  if (status.ok()) status = status_of(cudaGraphInstantiate(&executable, captured, 0), "preparing a recording");
  if (captured != nullptr) cudaGraphDestroy(captured);
  *graph = executable;
  return status;
}

Status launch_graph(void* graph, void* stream) {
  return status_of(cudaGraphLaunch(static_cast<cudaGraphExec_t>(graph), static_cast<cudaStream_t>(stream)), "replaying a recording");
}

void destroy_graph(void* graph) { cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(graph)); }

}  // namespace xlformers::cuda::runtime
