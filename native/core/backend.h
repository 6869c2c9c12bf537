// The backend table: what the addon needs of a device. The CPU backend is linked in; others are plugins, shared libraries that export
// `xlformers_backend` and are opened at run time. Plain C layout and no exceptions across it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/dtype.h"
#include "core/operators.h"
#include "core/status.h"

namespace xlformers {

// Raised whenever this table, Operator or a parameter block changes incompatibly; a plugin of another number is refused by name.
constexpr int32_t kBackendAbi = 4;

struct DeviceInfo {
  char name[128];
  char detail[128];       // instruction set and threads, or compute capability
  int64_t memory_bytes;   // physical memory
  int32_t threads;        // CPU: pool size; 0 elsewhere
};

// Called once, from a thread of the backend's own, when everything enqueued before the fence has run. `status` is the first error
// since the last fence, which it clears.
using FenceCallback = void (*)(void* user, const Status* status);

struct BackendStream;     // an in-order queue, owned by the backend
struct BackendRecording;  // operators of a stream, to be run again and again; owned by the backend

struct Backend {
  int32_t abi;  // first member, so that it can be read whatever follows
  int32_t table_bytes;
  const char* name;  // "cpu", "cuda"

  // Number of usable devices; 0 with the reason in *why_none.
  int32_t (*device_count)(Status* why_none);
  Status (*device_info)(int32_t device, DeviceInfo* info);

  Status (*open_stream)(int32_t device, BackendStream** stream);
  // Discards what has not started, waits for what has, completes outstanding fences with StatusCode::cancelled.
  void (*close_stream)(BackendStream* stream);

  // Raw memory for the caching allocator (64-byte aligned at least); null when there is none left.
  void* (*allocate)(int32_t device, size_t bytes);
  void (*deallocate)(int32_t device, void* memory, size_t bytes);

  // All four return at once. `params` and `source` are copied before the call returns; `destination` of a download must live until
  // a fence enqueued after it has completed. Errors found while running are reported by the next fence.
  Status (*enqueue)(BackendStream* stream, Operator op, const void* params, size_t bytes);
  Status (*upload)(BackendStream* stream, void* destination, const void* source, size_t bytes);
  Status (*download)(BackendStream* stream, void* destination, const void* source, size_t bytes);
  Status (*fence)(BackendStream* stream, FenceCallback callback, void* user);

  // Recording: from begin_recording to end_recording, enqueue() notes operators instead of running them, and nothing else is called but
  // allocate(). end_recording fails with what the first operator that cannot be run said. The memory that the operators name must stay theirs as
  // long as the recording is kept.
  Status (*begin_recording)(BackendStream* stream);
  Status (*end_recording)(BackendStream* stream, BackendRecording** recording);
  // Enqueues the operators once more, in their order.
  Status (*replay)(BackendStream* stream, BackendRecording* recording);
  // Replays that are enqueued already still run. All recordings are dropped before their stream is closed.
  void (*drop_recording)(BackendStream* stream, BackendRecording* recording);

  // Elements of the packed form of a matrix_product operand [inner, columns]; 0: packing is of no use here.
  int64_t (*packed_matrix_elements)(DType dtype, int64_t columns, int64_t inner);
  // Scratch memory that operators of this stream hold now and held at most since the last reset.
  void (*workspace_bytes)(BackendStream* stream, int64_t* current, int64_t* peak);
  void (*reset_workspace_peak)(BackendStream* stream);
};

constexpr const char* kBackendSymbol = "xlformers_backend";
using BackendFunction = const Backend* (*)();

}  // namespace xlformers
