// What the backend needs of the CUDA runtime. Two builds have it: runtime.cu, by cudart, and test/cuda/emulated_runtime.cc for
// machines without a GPU. Streams are a cudaStream_t behind a void*; calls of a stream's device need it current.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/backend.h"
#include "core/status.h"

namespace xlformers::cuda {

struct DeviceProperties {
  int32_t compute_capability;      // 10 * major + minor
  int32_t multiprocessors;
  int64_t shared_bytes_per_block;  // what a launch may ask for at most
  int64_t memory_bytes;
  int32_t ordinal = 0;
  bool emulated = false;  // its memory is the host's: NVIDIA's libraries are of no use
};

namespace runtime {

// 0 with the reason: no driver, a driver that is too old (and which is needed), no device.
int32_t device_count(Status* why_none);
Status device_info(int32_t device, DeviceInfo* info);
Status device_properties(int32_t device, DeviceProperties* properties);
// Of the calling thread, for all calls below.
Status make_current(int32_t device);

Status create_stream(void** stream);
// Waits for what was enqueued.
void destroy_stream(void* stream);

// Null when there is none left. Deallocating waits until the device is idle.
void* allocate(size_t bytes);
void deallocate(void* memory);
// Host memory that the device copies from and to while the host goes on.
void* allocate_pinned(size_t bytes);
void deallocate_pinned(void* memory);

Status copy_to_device(void* stream, void* destination, const void* pinned, size_t bytes);
Status copy_to_host(void* stream, void* pinned, const void* source, size_t bytes);
Status synchronize(void* stream);
Status clear(void* stream, void* memory, size_t bytes);

Status create_event(void** event);
void destroy_event(void* event);
Status record_event(void* event, void* stream);
// Blocks until everything before the event is done; the error of the device when it failed.
Status wait_for_event(void* event);

// What is launched from begin_capture to end_capture does not run, but becomes a graph. Launching one runs all of it, in the same order.
Status begin_capture(void* stream);
Status end_capture(void* stream, void** graph);
Status launch_graph(void* graph, void* stream);
// Its launches have ended.
void destroy_graph(void* graph);

}  // namespace runtime
}  // namespace xlformers::cuda
