#include "addon/buffer.h"

#include "addon/environment.h"
#include "addon/errors.h"

namespace xlformers::addon {
const napi_type_tag BufferHandle::kTypeTag = {0x3f6d2b9c81aa4c55, 0xa7e05d1390bc4f68};

Block::Block(std::shared_ptr<Device> device, size_t bytes) : device_(std::move(device)), bytes_(bytes) {
  void* memory = nullptr;
  require_ok(device_->allocator().allocate(bytes, &memory), "allocate");
  memory_ = static_cast<char*>(memory);
  device_->environment()->external_memory().allocated(static_cast<int64_t>(bytes));
}

Block::~Block() {
  device_->allocator().release(memory_);
  if (device_->environment() == nullptr) return;
  ExternalMemory& external_memory = device_->environment()->external_memory();
  if (forgotten_) {
    external_memory.collected(static_cast<int64_t>(bytes_));
  } else {
    external_memory.released(static_cast<int64_t>(bytes_));
  }
}

}  // namespace xlformers::addon
