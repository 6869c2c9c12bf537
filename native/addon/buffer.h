// Device memory: blocks of the caching allocator, and the handles through which JavaScript sees all of a block or a part of it.
#pragma once

#include <node_api.h>

#include <cstddef>
#include <memory>

#include "addon/device.h"

namespace xlformers::addon {

// Memory of a device. It goes back to the allocator when the last handle lets go of it and no call that names it is being enqueued:
// from then on only work that is enqueued later can be given the same memory.
class Block {
 public:
  // Throws ERR_OUT_OF_MEMORY.
  Block(std::shared_ptr<Device> device, size_t bytes);
  ~Block();
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  const std::shared_ptr<Device>& device() const { return device_; }
  char* memory() const { return memory_; }
  size_t bytes() const { return bytes_; }

  // A handle was collected that nobody had released.
  void forget() { forgotten_ = true; }

 private:
  std::shared_ptr<Device> device_;
  size_t bytes_;
  char* memory_ = nullptr;
  bool forgotten_ = false;
};

// What a buffer handle owns. `block` is null after release().
struct BufferHandle {
  static const napi_type_tag kTypeTag;
  std::shared_ptr<Block> block;
  size_t offset = 0;
  size_t bytes = 0;

  ~BufferHandle() {
    if (block != nullptr) block->forget();
  }
  char* memory() const { return block->memory() + offset; }
};

}  // namespace xlformers::addon
