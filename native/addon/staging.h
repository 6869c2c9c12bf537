// Host memory that a download lands in. JavaScript's own memory may be detached and freed at any moment, so the device's queue never
// writes to it; the copy is made on the JavaScript thread, in portions that do not hold up the event loop (lib/native.ts).
#pragma once

#include <node_api.h>

#include <cstddef>
#include <memory>
#include <new>

namespace xlformers::addon {

class Staging {
 public:
  static const napi_type_tag kTypeTag;

  explicit Staging(size_t bytes) : memory_(new (std::nothrow) char[bytes]), bytes_(bytes) {}

  char* memory() const { return memory_.get(); }  // null: there was not so much memory, or it was freed
  size_t bytes() const { return bytes_; }
  void free() { memory_.reset(); }

 private:
  std::unique_ptr<char[]> memory_;
  size_t bytes_;
};

}  // namespace xlformers::addon
