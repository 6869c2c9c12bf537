#include "addon/recording.h"

#include <utility>

#include "addon/errors.h"

namespace xlformers::addon {

const napi_type_tag Recording::kTypeTag = {0x2b7a94c6d18e4f03, 0x95c1e8f26b3d4a70};

Recording::Recording(std::shared_ptr<Device> device) : device_(std::move(device)) {
  require_ok(device_->backend().begin_recording(device_->stream()), "record");
  reserve_ = device_->allocator().begin_reserve();
  device_->recordings().insert(this);
}

Recording::~Recording() { drop(); }

void Recording::hold(const std::shared_ptr<Block>& block) {
  if (!device_->allocator().is_reserved(block->memory(), reserve_)) blocks_.insert(block);
}

void Recording::end() {
  device_->allocator().end_reserve();
  open_ = false;
  require_ok(device_->backend().end_recording(device_->stream(), &native_), "record");
}

void Recording::replay() { require_ok(device_->backend().replay(device_->stream(), native_), "replay"); }

void Recording::drop() {
  if (reserve_ == nullptr) return;
  device_->recordings().erase(this);
  if (open_) device_->backend().end_recording(device_->stream(), &native_);
  open_ = false;
  if (native_ != nullptr) device_->backend().drop_recording(device_->stream(), std::exchange(native_, nullptr));
  blocks_.clear();
  device_->allocator().drop_reserve(std::exchange(reserve_, nullptr));
}

}  // namespace xlformers::addon
