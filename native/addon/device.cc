#include "addon/device.h"

#include "addon/environment.h"
#include "addon/errors.h"
#include "addon/recording.h"

namespace xlformers::addon {

const napi_type_tag DeviceHandle::kTypeTag = {0x8c1f0e6a54d94b7b, 0x9d3a2f71c6e84e02};

Device::Device(Environment* environment, const Backend* backend, int32_t index)
    : environment_(environment), backend_(backend), index_(index) {
  require_ok(backend_->open_stream(index, &stream_), "openDevice");
  try {
    allocator_ = std::make_unique<CachingAllocator>(backend_, index, stream_);
    environment_->devices().insert(this);
  } catch (...) {
    backend_->close_stream(stream_);
    throw;
  }
}

Device::~Device() {
  close();
}

void Device::close() {
  if (environment_ == nullptr) return;
  while (!recordings_.empty()) (*recordings_.begin())->drop();
  environment_->devices().erase(this);
  environment_ = nullptr;
  backend_->close_stream(stream_);
  stream_ = nullptr;
}

std::string Device::name() const { return std::string(backend_->name) + ":" + std::to_string(index_); }

}  // namespace xlformers::addon
