#include "addon/buffer.h"

#include "addon/environment.h"
#include "addon/errors.h"

namespace xlformers::addon {
namespace {

// Tells the garbage collector of memory that handles keep alive, so that forgotten tensors are collected before memory runs out.
void adjust_external_memory(const Device& device, int64_t change) {
  int64_t ignored = 0;
  if (device.environment() != nullptr) napi_adjust_external_memory(device.environment()->env(), change, &ignored);
}

}  // namespace

const napi_type_tag BufferHandle::kTypeTag = {0x3f6d2b9c81aa4c55, 0xa7e05d1390bc4f68};

Block::Block(std::shared_ptr<Device> device, size_t bytes) : device_(std::move(device)), bytes_(bytes) {
  void* memory = nullptr;
  require_ok(device_->allocator().allocate(bytes, &memory), "allocate");
  memory_ = static_cast<char*>(memory);
  adjust_external_memory(*device_, static_cast<int64_t>(bytes));
}

Block::~Block() {
  device_->allocator().release(memory_);
  adjust_external_memory(*device_, -static_cast<int64_t>(bytes_));
}

}  // namespace xlformers::addon
