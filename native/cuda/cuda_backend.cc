// The plugin: what the addon finds behind `xlformers_backend` (core/backend.h).
#include <memory>

#include "core/backend.h"
#include "cuda/cuda_stream.h"
#include "cuda/runtime.h"

namespace xlformers::cuda {
namespace {

CudaStream* stream_of(BackendStream* stream) { return reinterpret_cast<CudaStream*>(stream); }

Status open_stream(int32_t device, BackendStream** stream) {
  std::unique_ptr<CudaStream> opened;
  const Status status = CudaStream::open(device, &opened);
  if (status.ok()) *stream = reinterpret_cast<BackendStream*>(opened.release());
  return status;
}

void close_stream(BackendStream* stream) { delete stream_of(stream); }

void* allocate(int32_t device, size_t bytes) { return runtime::make_current(device).ok() ? runtime::allocate(bytes) : nullptr; }

void deallocate(int32_t device, void* memory, size_t) {
  runtime::make_current(device);
  runtime::deallocate(memory);
}

Status enqueue(BackendStream* stream, Operator op, const void* params, size_t) { return stream_of(stream)->enqueue(op, params); }

Status upload(BackendStream* stream, void* destination, const void* source, size_t bytes) {
  return stream_of(stream)->upload(destination, source, bytes);
}

Status download(BackendStream* stream, void* destination, const void* source, size_t bytes) {
  return stream_of(stream)->download(destination, source, bytes);
}

Status fence(BackendStream* stream, FenceCallback callback, void* user) { return stream_of(stream)->fence(callback, user); }

Status begin_recording(BackendStream* stream) { return stream_of(stream)->begin_recording(); }

Status end_recording(BackendStream* stream, BackendRecording** recording) {
  return stream_of(stream)->end_recording(reinterpret_cast<void**>(recording));
}

Status replay(BackendStream* stream, BackendRecording* recording) { return stream_of(stream)->replay(recording); }

void drop_recording(BackendStream* stream, BackendRecording* recording) { stream_of(stream)->drop(recording); }

// Matrices are read where they lie.
int64_t packed_matrix_elements(DType, int64_t, int64_t) { return 0; }

void workspace_bytes(BackendStream* stream, int64_t* current, int64_t* peak) {
  *current = stream_of(stream)->workspace().bytes();
  *peak = stream_of(stream)->workspace().peak_bytes();
}

void reset_workspace_peak(BackendStream* stream) { stream_of(stream)->reset_workspace_peak(); }

}  // namespace
}  // namespace xlformers::cuda

extern "C" __attribute__((visibility("default"))) const xlformers::Backend* xlformers_backend() {
  using namespace xlformers::cuda;
  static const xlformers::Backend backend = {
      xlformers::kBackendAbi, sizeof(xlformers::Backend), "cuda", runtime::device_count, runtime::device_info, open_stream,
      close_stream,           allocate,                   deallocate, enqueue,            upload,              download,
      fence,                  begin_recording,            end_recording, replay,         drop_recording,
      packed_matrix_elements, workspace_bytes,            reset_workspace_peak};
  return &backend;
}
