#include "cpu/cpu_backend.h"

#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <exception>
#include <memory>

#include "cpu/cpu_stream.h"
#include "cpu/dispatch.h"
#include "cpu/large_memory.h"

namespace xlformers::cpu {
namespace {

CpuStream* stream_of(BackendStream* stream) { return reinterpret_cast<CpuStream*>(stream); }

// "model name" of /proc/cpuinfo, else the architecture.
void read_cpu_name(char* name, size_t size) {
#if defined(__aarch64__)
  std::snprintf(name, size, "ARM64 CPU");
#else
  std::snprintf(name, size, "CPU");
#endif
  FILE* file = std::fopen("/proc/cpuinfo", "r");
  if (file == nullptr) return;
  char line[256];
  while (std::fgets(line, sizeof line, file) != nullptr) {
    if (std::strncmp(line, "model name", 10) != 0) continue;
    if (const char* colon = std::strchr(line, ':')) {
      std::snprintf(name, size, "%s", colon + 1 + std::strspn(colon + 1, " "));
      name[std::strcspn(name, "\n")] = '\0';
    }
    break;
  }
  std::fclose(file);
}

int32_t device_count(Status* why_none) { return kernels(why_none) == nullptr ? 0 : 1; }

Status device_info(int32_t device, DeviceInfo* info) {
  if (device != 0) return make_status(StatusCode::device, "cpu:%d: there is one CPU device", device);
  Status status;
  const KernelTable* table = kernels(&status);
  if (table == nullptr) return status;
  *info = DeviceInfo{};
  read_cpu_name(info->name, sizeof info->name);
  const int threads = ThreadPool::instance().threads();
  std::snprintf(info->detail, sizeof info->detail, "%s, %d thread%s", table->isa, threads, threads == 1 ? "" : "s");
  info->memory_bytes = static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE);
  info->threads = threads;
  return status;
}

Status open_stream(int32_t device, BackendStream** stream) {
  if (device != 0) return make_status(StatusCode::device, "cpu:%d: there is one CPU device", device);
  Status status;
  const KernelTable* table = kernels(&status);
  if (table == nullptr) return status;
  try {
    *stream = reinterpret_cast<BackendStream*>(new CpuStream(*table));
  } catch (const std::exception& error) {
    return make_status(StatusCode::device, "cpu: no thread for the queue: %.180s", error.what());
  }
  return status;
}

void close_stream(BackendStream* stream) { delete stream_of(stream); }

void* allocate(int32_t, size_t bytes) { return allocate_memory(bytes); }

void deallocate(int32_t, void* memory, size_t) { free_memory(memory); }

Status enqueue(BackendStream* stream, Operator op, const void* params, size_t bytes) {
  return stream_of(stream)->enqueue(op, params, bytes);
}

Status upload(BackendStream* stream, void* destination, const void* source, size_t bytes) {
  return stream_of(stream)->upload(destination, source, bytes);
}

Status download(BackendStream* stream, void* destination, const void* source, size_t bytes) {
  return stream_of(stream)->download(destination, source, bytes);
}

Status fence(BackendStream* stream, FenceCallback callback, void* user) {
  return stream_of(stream)->fence(callback, user);
}

Status begin_recording(BackendStream* stream) { return stream_of(stream)->begin_recording(); }

Status end_recording(BackendStream* stream, BackendRecording** recording) {
  auto taken = std::make_unique<Recording>();
  const Status status = stream_of(stream)->take_recording(taken.get());
  if (status.ok()) *recording = reinterpret_cast<BackendRecording*>(taken.release());
  return status;
}

Status replay(BackendStream* stream, BackendRecording* recording) {
  return stream_of(stream)->replay(*reinterpret_cast<Recording*>(recording));
}

void drop_recording(BackendStream*, BackendRecording* recording) { delete reinterpret_cast<Recording*>(recording); }

int64_t packed_matrix_elements(DType dtype, int64_t columns, int64_t inner) {
  Status ignored;
  const KernelTable* table = kernels(&ignored);
  return table == nullptr ? 0 : table->packed_matrix_elements(dtype, columns, inner);
}

void workspace_bytes(BackendStream* stream, int64_t* current, int64_t* peak) {
  *current = stream_of(stream)->workspace().bytes();
  *peak = stream_of(stream)->workspace().peak_bytes();
}

void reset_workspace_peak(BackendStream* stream) { stream_of(stream)->reset_workspace_peak(); }

}  // namespace

const Backend* cpu_backend() {
  static const Backend backend = {kBackendAbi, sizeof(Backend), "cpu", device_count, device_info, open_stream, close_stream,
                                  allocate, deallocate, enqueue, upload, download, fence, begin_recording, end_recording,
                                  replay, drop_recording, packed_matrix_elements, workspace_bytes, reset_workspace_peak};
  return &backend;
}

}  // namespace xlformers::cpu
