#include "addon/errors.h"
#include "addon/exports.h"
#include "addon/guard.h"
#include "addon/handle.h"
#include "addon/positional.h"
#include "core/shape.h"

namespace xlformers::addon {
namespace {

// allocate(device, bytes)
Napi::Value allocate(Environment&, const Napi::CallbackInfo& info) {
  const std::shared_ptr<Device> device = device_argument(info, 0, "allocate");
  const auto bytes = static_cast<size_t>(integer_argument(info, 1, "allocate", "bytes", 0, kMaxElements));
  auto handle = std::make_unique<BufferHandle>();
  handle->block = std::make_shared<Block>(device, bytes);
  handle->bytes = bytes;
  return make_handle(info.Env(), std::move(handle));
}

// view(buffer, byteOffset, byteLength): a handle that shares the buffer's block
Napi::Value view(Environment&, const Napi::CallbackInfo& info) {
  const BufferHandle& buffer = live_buffer_argument(info, 0, "view");
  const auto whole = static_cast<int64_t>(buffer.bytes);
  const int64_t offset = integer_argument(info, 1, "view", "byteOffset", 0, whole);
  const int64_t bytes = integer_argument(info, 2, "view", "byteLength", 0, whole - offset);
  auto handle = std::make_unique<BufferHandle>();
  handle->block = buffer.block;
  handle->offset = buffer.offset + static_cast<size_t>(offset);
  handle->bytes = static_cast<size_t>(bytes);
  return make_handle(info.Env(), std::move(handle));
}

// release(buffer): harmless when repeated
Napi::Value release(Environment&, const Napi::CallbackInfo& info) {
  buffer_argument(info, 0, "release").block.reset();
  return info.Env().Undefined();
}

}  // namespace

void export_buffers(Napi::Object exports) {
  export_function<allocate>(exports, "allocate");
  export_function<view>(exports, "view");
  export_function<release>(exports, "release");
}

}  // namespace xlformers::addon
