#include <algorithm>
#include <cstring>

#include "addon/errors.h"
#include "addon/exports.h"
#include "addon/guard.h"
#include "addon/handle.h"
#include "addon/positional.h"
#include "addon/staging.h"
#include "core/shape.h"

namespace xlformers::addon {

const napi_type_tag Staging::kTypeTag = {0x51d7c0b2e9f34a1d, 0xb84e6c2a07f94d93};

namespace {

constexpr size_t kElementBytes[] = {1, 1, 1, 2, 2, 4, 4, 4, 8, 8, 8};  // by napi_typedarray_type

struct Bytes {
  const char* data;
  size_t count;
};

// The bytes of a typed array. Those of a SharedArrayBuffer may change while they are copied; that is the caller's to avoid.
Bytes typed_array_argument(const Napi::CallbackInfo& info, size_t index) {
  const napi_env env = info.Env();
  bool is_typed_array = false;
  napi_is_typedarray(env, info[index], &is_typed_array);
  if (!is_typed_array) {
    fail(ErrorCode::arg_data, "upload: argument 'data': got %s, expected a typed array", describe(env, info[index]).c_str());
  }
  napi_typedarray_type type = napi_uint8_array;
  size_t length = 0;
  void* data = nullptr;
  napi_value memory = nullptr;
  size_t offset = 0;
  if (napi_get_typedarray_info(env, info[index], &type, &length, &data, &memory, &offset) != napi_ok) throw Napi::Error::New(env);
  const auto kind = static_cast<size_t>(type);
  if (kind >= sizeof kElementBytes / sizeof *kElementBytes) fail(ErrorCode::arg_data, "upload: argument 'data': unknown element type");
  const Bytes bytes = {static_cast<const char*>(data), length * kElementBytes[kind]};
  bool plain = false;
  bool detached = false;
  napi_is_arraybuffer(env, memory, &plain);
  if (!plain) return bytes;  // shared: it may grow, but never shrinks and is never detached
  napi_is_detached_arraybuffer(env, memory, &detached);
  if (detached) fail(ErrorCode::arg_data, "upload: argument 'data': got a detached array, expected one with its data");
  void* memory_data = nullptr;
  size_t memory_bytes = 0;
  if (napi_get_arraybuffer_info(env, memory, &memory_data, &memory_bytes) != napi_ok) throw Napi::Error::New(env);
  if (bytes.count > 0 && (offset > memory_bytes || bytes.count > memory_bytes - offset)) {
    fail(ErrorCode::arg_data, "upload: argument 'data': got an array beyond its shrunken ArrayBuffer");
  }
  return bytes;
}

// An ArrayBuffer to write to, of exactly `bytes` bytes; SharedArrayBuffers are no ArrayBuffers.
char* target_argument(const Napi::CallbackInfo& info, size_t index, const char* function, size_t bytes) {
  const napi_env env = info.Env();
  bool is_array_buffer = false;
  napi_is_arraybuffer(env, info[index], &is_array_buffer);
  if (!is_array_buffer) {
    fail(ErrorCode::arg_data, "%s: argument 'target': got %s, expected an ArrayBuffer", function, describe(env, info[index]).c_str());
  }
  bool detached = false;
  napi_is_detached_arraybuffer(env, info[index], &detached);
  if (detached) fail(ErrorCode::arg_data, "%s: argument 'target': got a detached ArrayBuffer, expected %zu bytes", function, bytes);
  void* data = nullptr;
  size_t count = 0;
  if (napi_get_arraybuffer_info(env, info[index], &data, &count) != napi_ok) throw Napi::Error::New(env);
  if (count != bytes) fail(ErrorCode::arg_data, "%s: argument 'target': got %zu bytes, expected %zu", function, count, bytes);
  return static_cast<char*>(data);
}

// upload(buffer, data): the data are copied before it returns
Napi::Value upload(Environment& environment, const Napi::CallbackInfo& info) {
  refuse_while_recording(environment, "upload", "make the tensor before, and write to it between replays");
  const BufferHandle& buffer = live_buffer_argument(info, 0, "upload");
  const Bytes data = typed_array_argument(info, 1);
  if (data.count != buffer.bytes) {
    fail(ErrorCode::arg_data, "upload: argument 'data': got %zu bytes, expected %zu", data.count, buffer.bytes);
  }
  if (data.count > 0) {
    const Device& device = *buffer.block->device();
    require_ok(device.backend().upload(device.stream(), buffer.memory(), data.data, data.count), "upload");
  }
  return info.Env().Undefined();
}

// download(buffer, target): a promise of the contents, for copyDownloaded. The target is only checked.
Napi::Value download(Environment& environment, const Napi::CallbackInfo& info) {
  refuse_while_recording(environment, "read", "read after a replay");
  const BufferHandle& buffer = live_buffer_argument(info, 0, "read");
  target_argument(info, 1, "read", buffer.bytes);
  const std::shared_ptr<Device> device = buffer.block->device();
  auto staging = std::make_unique<Staging>(buffer.bytes);
  if (staging->memory() == nullptr) fail(ErrorCode::out_of_memory, "read: no memory for a copy of %zu bytes", buffer.bytes);
  if (buffer.bytes > 0) {
    require_ok(device->backend().download(device->stream(), staging->memory(), buffer.memory(), buffer.bytes), "read");
  }
  return environment.completions().fence(device, std::move(staging));
}

// copyDownloaded(staging, target, offset, length): a portion of the contents; the last one frees the staging memory
Napi::Value copy_downloaded(Environment&, const Napi::CallbackInfo& info) {
  Staging* staging = unwrap_handle<Staging>(info.Env(), info[0]);
  if (staging == nullptr || staging->memory() == nullptr) fail(ErrorCode::arg_handle, "read: argument 'staging': not from download()");
  const auto whole = static_cast<int64_t>(staging->bytes());
  char* const target = target_argument(info, 1, "read", staging->bytes());
  const int64_t offset = integer_argument(info, 2, "read", "offset", 0, whole);
  const int64_t length = integer_argument(info, 3, "read", "length", 0, whole - offset);
  if (length > 0) std::memcpy(target + offset, staging->memory() + offset, static_cast<size_t>(length));
  if (offset + length == whole) staging->free();
  return info.Env().Undefined();
}

// fence(device): a promise that is fulfilled when everything enqueued before has run
Napi::Value fence(Environment& environment, const Napi::CallbackInfo& info) {
  refuse_while_recording(environment, "synchronize", "wait after it");
  return environment.completions().fence(device_argument(info, 0, "fence"), nullptr);
}

}  // namespace

void export_transfers(Napi::Object exports) {
  export_function<upload>(exports, "upload");
  export_function<download>(exports, "download");
  export_function<copy_downloaded>(exports, "copyDownloaded");
  export_function<fence>(exports, "fence");
}

}  // namespace xlformers::addon
