#include "addon/positional.h"

#include <cmath>
#include <cstring>

#include "addon/environment.h"
#include "addon/errors.h"
#include "addon/handle.h"

namespace xlformers::addon {
namespace {

[[noreturn]] void refuse(const Napi::CallbackInfo& info, size_t index, ErrorCode code, const char* function, const char* name,
                         const char* expected) {
  fail(code, "%s: argument '%s': got %s, expected %s", function, name, describe(info.Env(), info[index]).c_str(), expected);
}

}  // namespace

int64_t integer_argument(const Napi::CallbackInfo& info, size_t index, const char* function, const char* name, int64_t lowest,
                         int64_t highest) {
  if (!info[index].IsNumber()) refuse(info, index, ErrorCode::arg_type, function, name, "a number");
  const double number = info[index].As<Napi::Number>().DoubleValue();
  const bool fits = number >= static_cast<double>(lowest) && number <= static_cast<double>(highest) && number == std::floor(number);
  if (!fits) {
    const std::string range = "an integer in [" + std::to_string(lowest) + ", " + std::to_string(highest) + "]";
    refuse(info, index, ErrorCode::arg_range, function, name, range.c_str());
  }
  return static_cast<int64_t>(number);
}

DType dtype_argument(const Napi::CallbackInfo& info, size_t index, const char* function) {
  if (!info[index].IsString()) refuse(info, index, ErrorCode::arg_type, function, "dtype", "the name of an element type");
  const std::string name = info[index].As<Napi::String>();
  for (int32_t number = 0; number < kDTypeCount; ++number) {
    if (name == dtype_name(static_cast<DType>(number))) return static_cast<DType>(number);
  }
  refuse(info, index, ErrorCode::arg_range, function, "dtype", "the name of an element type");
}

std::shared_ptr<Device> device_argument(const Napi::CallbackInfo& info, size_t index, const char* function) {
  const DeviceHandle* handle = unwrap_handle<DeviceHandle>(info.Env(), info[index]);
  if (handle == nullptr) refuse(info, index, ErrorCode::arg_handle, function, "device", "a device");
  if (handle->device->environment() != &Environment::of(info.Env())) {
    fail(ErrorCode::arg_handle, "%s: argument 'device': got a device of another copy of the addon", function);
  }
  return handle->device;
}

BufferHandle& buffer_argument(const Napi::CallbackInfo& info, size_t index, const char* function) {
  BufferHandle* handle = unwrap_handle<BufferHandle>(info.Env(), info[index]);
  if (handle == nullptr) refuse(info, index, ErrorCode::arg_handle, function, "buffer", "a buffer");
  return *handle;
}

BufferHandle& live_buffer_argument(const Napi::CallbackInfo& info, size_t index, const char* function) {
  BufferHandle& handle = buffer_argument(info, index, function);
  if (handle.block == nullptr) fail(ErrorCode::disposed, "%s: argument 'buffer': it was released", function);
  if (handle.block->device()->environment() != &Environment::of(info.Env())) {
    fail(ErrorCode::arg_handle, "%s: argument 'buffer': got a buffer of another copy of the addon", function);
  }
  return handle;
}

}  // namespace xlformers::addon
