// Arguments of the functions that take them by position. Operators take one object (arg_reader.h).
#pragma once

#include <napi.h>

#include <cstddef>
#include <cstdint>
#include <memory>

#include "addon/buffer.h"
#include "addon/device.h"
#include "core/dtype.h"

namespace xlformers::addon {

// `function` names the call and `name` the argument, for messages.
int64_t integer_argument(const Napi::CallbackInfo& info, size_t index, const char* function, const char* name, int64_t lowest,
                         int64_t highest);
DType dtype_argument(const Napi::CallbackInfo& info, size_t index, const char* function);
std::shared_ptr<Device> device_argument(const Napi::CallbackInfo& info, size_t index, const char* function);
// Not null; its block may be (released).
BufferHandle& buffer_argument(const Napi::CallbackInfo& info, size_t index, const char* function);
// Not released, and of this environment.
BufferHandle& live_buffer_argument(const Napi::CallbackInfo& info, size_t index, const char* function);

}  // namespace xlformers::addon
