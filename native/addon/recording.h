// Operators that are enqueued once and run again and again.
#pragma once

#include <node_api.h>

#include <memory>
#include <unordered_set>

#include "addon/buffer.h"
#include "addon/device.h"

namespace xlformers::addon {

// What a recording handle owns. Its memory: what was allocated while it was made is reserved for it, and what its operators named besides
// stays alive.
class Recording {
 public:
  static const napi_type_tag kTypeTag;

  // Begins: until end(), operators of the device are noted instead of run. Throws.
  explicit Recording(std::shared_ptr<Device> device);
  ~Recording();
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;

  const std::shared_ptr<Device>& device() const { return device_; }
  bool dropped() const { return native_ == nullptr; }

  // An operator that was noted names it.
  void hold(const std::shared_ptr<Block>& block);
  // Throws when something cannot be recorded.
  void end();
  void replay();
  // Replays that are enqueued already still run. Harmless when repeated.
  void drop();

 private:
  std::shared_ptr<Device> device_;
  CachingAllocator::Reserve* reserve_ = nullptr;
  bool open_ = true;
  BackendRecording* native_ = nullptr;
  std::unordered_set<std::shared_ptr<Block>> blocks_;
};

}  // namespace xlformers::addon
