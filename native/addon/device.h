// A device as one JavaScript thread sees it: a queue and an allocator of its own.
#pragma once

#include <node_api.h>

#include <memory>
#include <string>
#include <unordered_set>

#include "core/backend.h"
#include "core/caching_allocator.h"

namespace xlformers::addon {

class Environment;
class Recording;

// Belongs to the JavaScript thread of its environment. Buffers and outstanding fences share it; the queue is closed with the last of
// them, or with the environment.
class Device {
 public:
  Device(Environment* environment, const Backend* backend, int32_t index);
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  // Null once the environment is going down.
  Environment* environment() const { return environment_; }
  const Backend& backend() const { return *backend_; }
  BackendStream* stream() const { return stream_; }
  CachingAllocator& allocator() { return *allocator_; }
  std::string name() const;
  // Those that are not dropped yet.
  std::unordered_set<Recording*>& recordings() { return recordings_; }

  // Closes the queue: work that has not started is discarded. Memory stays valid until the device is destroyed.
  void close();

 private:
  Environment* environment_;
  const Backend* backend_;
  int32_t index_;
  BackendStream* stream_ = nullptr;
  std::unique_ptr<CachingAllocator> allocator_;
  std::unordered_set<Recording*> recordings_;
};

// What a device handle owns.
struct DeviceHandle {
  static const napi_type_tag kTypeTag;
  std::shared_ptr<Device> device;
};

}  // namespace xlformers::addon
