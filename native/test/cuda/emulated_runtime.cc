// The CUDA runtime for machines without a GPU: two devices, the emulator twice. What is enqueued has run when the call returns.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

#include "cuda/runtime.h"
#include "simt/device_memory.h"
#include "simt/launch.h"

namespace xlformers::cuda::runtime {
namespace {

constexpr int32_t kDevices = 2;

// By the thread that captures: each has its own streams.
thread_local simt::Recording* captured = nullptr;

}  // namespace

int32_t device_count(Status*) { return kDevices; }

Status device_info(int32_t device, DeviceInfo* info) {
  if (device < 0 || device >= kDevices) return make_status(StatusCode::device, "cuda:%d: there is no such device", device);
  *info = DeviceInfo{};
  std::snprintf(info->name, sizeof info->name, "CUDA emulator");
  std::snprintf(info->detail, sizeof info->detail, "kernels on the CPU, for tests");
  info->memory_bytes = int64_t{8} << 30;
  return ok_status();
}

Status device_properties(int32_t device, DeviceProperties* properties) {
  *properties = {80, 4, static_cast<int64_t>(simt::options().shared_limit), int64_t{8} << 30, device, true};
  return ok_status();
}

Status make_current(int32_t device) {
  simt::set_device(device);
  return ok_status();
}

Status create_stream(void** stream) {
  *stream = nullptr;
  return ok_status();
}
void destroy_stream(void*) {}

void* allocate(size_t bytes) {
  try {
    return simt::allocate(bytes);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

void deallocate(void* memory) { simt::release(memory); }
void* allocate_pinned(size_t bytes) { return std::malloc(bytes); }
void deallocate_pinned(void* memory) { std::free(memory); }

Status copy_to_device(void*, void* destination, const void* pinned, size_t bytes) {
  std::memcpy(destination, pinned, bytes);
  if (bytes > 0) simt::mark_initialized(destination, bytes);
  return ok_status();
}

Status copy_to_host(void*, void* pinned, const void* source, size_t bytes) {
  std::memcpy(pinned, source, bytes);
  return ok_status();
}

Status synchronize(void*) { return ok_status(); }

Status clear(void*, void* memory, size_t bytes) {
  std::memset(memory, 0, bytes);
  if (bytes > 0) simt::mark_initialized(memory, bytes);
  return ok_status();
}

Status create_event(void** event) {
  *event = nullptr;
  return ok_status();
}
void destroy_event(void*) {}
Status record_event(void*, void*) { return ok_status(); }
Status wait_for_event(void*) { return ok_status(); }

Status begin_capture(void*) {
  simt::record_launches(captured = new simt::Recording);
  return ok_status();
}

Status end_capture(void*, void** graph) {
  simt::record_launches(nullptr);
  *graph = std::exchange(captured, nullptr);
  return ok_status();
}

Status launch_graph(void* graph, void*) {
  const simt::Fault fault = static_cast<simt::Recording*>(graph)->replay();
  return fault.ok() ? ok_status() : make_status(StatusCode::internal, "%s", fault.message.c_str());
}

void destroy_graph(void* graph) { delete static_cast<simt::Recording*>(graph); }

}  // namespace xlformers::cuda::runtime
