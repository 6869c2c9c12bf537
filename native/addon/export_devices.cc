#include <algorithm>
#include <iterator>
#include <memory>
#include <string>

#include "addon/errors.h"
#include "addon/exports.h"
#include "addon/guard.h"
#include "addon/handle.h"
#include "addon/positional.h"
#include "core/registry.h"

namespace xlformers::addon {
namespace {

constexpr const char* kBackendNames[] = {"cpu", "cuda"};

Napi::Object describe_device(Napi::Env env, const Backend& backend, int32_t index) {
  DeviceInfo info{};
  require_ok(backend.device_info(index, &info), "backends");
  Napi::Object device = Napi::Object::New(env);
  device.Set("index", index);
  device.Set("name", static_cast<const char*>(info.name));
  device.Set("detail", static_cast<const char*>(info.detail));
  device.Set("memoryBytes", static_cast<double>(info.memory_bytes));
  device.Set("threads", info.threads);
  return device;
}

Napi::Value backends(Environment&, const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Napi::Array list = Napi::Array::New(env);
  for (const char* name : kBackendNames) {
    std::string reason;
    Napi::Array devices = Napi::Array::New(env);
    if (const Backend* backend = find_backend(name, &reason)) {
      Status why_none;
      const int32_t count = backend->device_count(&why_none);
      if (count == 0) reason = why_none.message;
      for (int32_t index = 0; index < count; ++index) devices.Set(index, describe_device(env, *backend, index));
    }
    Napi::Object entry = Napi::Object::New(env);
    entry.Set("name", name);
    entry.Set("devices", devices);
    entry.Set("reason", reason.empty() ? env.Null() : Napi::Value(Napi::String::New(env, reason)));
    list.Set(list.Length(), entry);
  }
  return list;
}

Napi::Value open_device(Environment& environment, const Napi::CallbackInfo& info) {
  if (!info[0].IsString()) {
    fail(ErrorCode::arg_type, "openDevice: argument 'backend': got %s, expected 'cpu' or 'cuda'", describe(info.Env(), info[0]).c_str());
  }
  const std::string name = info[0].As<Napi::String>();
  const bool known = std::any_of(std::begin(kBackendNames), std::end(kBackendNames), [&](const char* each) { return name == each; });
  if (!known) {
    fail(ErrorCode::arg_range, "openDevice: argument 'backend': got %s, expected 'cpu' or 'cuda'", describe(info.Env(), info[0]).c_str());
  }
  const auto index = static_cast<int32_t>(integer_argument(info, 1, "openDevice", "index", 0, INT32_MAX));
  std::string reason;
  const Backend* backend = find_backend(name.c_str(), &reason);
  if (backend == nullptr) fail(ErrorCode::device, "openDevice: no backend '%s': %s", name.c_str(), reason.c_str());
  Status why_none;
  const int32_t count = backend->device_count(&why_none);
  if (index >= count) {
    fail(ErrorCode::device, "openDevice: argument 'index': got %d, but '%s' has %d devices%s%s", index, name.c_str(), count,
         why_none.ok() ? "" : ": ", why_none.message);
  }
  auto handle = std::make_unique<DeviceHandle>();
  handle->device = std::make_shared<Device>(&environment, backend, index);
  return make_handle(info.Env(), std::move(handle));
}

Napi::Value memory(Environment&, const Napi::CallbackInfo& info) {
  const std::shared_ptr<Device> device = device_argument(info, 0, "memory");
  const AllocatorStatistics& statistics = device->allocator().statistics();
  int64_t workspace = 0;
  int64_t peak_workspace = 0;
  device->backend().workspace_bytes(device->stream(), &workspace, &peak_workspace);
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("liveBytes", static_cast<double>(statistics.live_bytes));
  result.Set("cachedBytes", static_cast<double>(statistics.cached_bytes));
  result.Set("peakBytes", static_cast<double>(statistics.peak_bytes + peak_workspace));
  result.Set("workspaceBytes", static_cast<double>(workspace));
  result.Set("peakWorkspaceBytes", static_cast<double>(peak_workspace));
  return result;
}

Napi::Value reset_peak(Environment&, const Napi::CallbackInfo& info) {
  const std::shared_ptr<Device> device = device_argument(info, 0, "resetPeak");
  device->allocator().reset_peak();
  device->backend().reset_workspace_peak(device->stream());
  return info.Env().Undefined();
}

Napi::Value release_cached(Environment& environment, const Napi::CallbackInfo& info) {
  refuse_while_recording(environment, "releaseCached", "release after it");
  device_argument(info, 0, "releaseCached")->allocator().release_cached();
  environment.external_memory().trimmed();
  return info.Env().Undefined();
}

Napi::Value packed_matrix_elements(Environment&, const Napi::CallbackInfo& info) {
  constexpr int64_t kMaxSize = int64_t{1} << 26;  // the product of two stays below 2^53
  const std::shared_ptr<Device> device = device_argument(info, 0, "packedMatrixElements");
  const DType dtype = dtype_argument(info, 1, "packedMatrixElements");
  const int64_t columns = integer_argument(info, 2, "packedMatrixElements", "columns", 0, kMaxSize);
  const int64_t inner = integer_argument(info, 3, "packedMatrixElements", "inner", 0, kMaxSize);
  return Napi::Number::New(info.Env(), static_cast<double>(device->backend().packed_matrix_elements(dtype, columns, inner)));
}

}  // namespace

void export_devices(Napi::Object exports) {
  export_function<backends>(exports, "backends");
  export_function<open_device>(exports, "openDevice");
  export_function<memory>(exports, "memory");
  export_function<reset_peak>(exports, "resetPeak");
  export_function<release_cached>(exports, "releaseCached");
  export_function<packed_matrix_elements>(exports, "packedMatrixElements");
}

}  // namespace xlformers::addon
