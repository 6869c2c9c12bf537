// Shared memory of a block: variables first, the dynamic part behind them, up against a page that may not be touched.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "simt/shadow.h"

namespace simt {

class SharedMemory {
 public:
  SharedMemory();
  ~SharedMemory();
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  // Poisons it for a block with `dynamic_bytes` of dynamic memory. `shadowed`: with cells for every word.
  void start(size_t dynamic_bytes, bool shadowed);
  unsigned char* dynamic() const { return dynamic_; }
  // The variable that `key` stands for; null when its bytes would not fit into `limit` together with all others.
  void* variable(const void* key, size_t bytes, size_t alignment, size_t limit);

  // Does this block have these bytes?
  bool contains(const void* address, size_t bytes) const;
  // Any address that some block's memory may occupy here, and a little beyond.
  bool surrounds(const void* address) const {
    return reinterpret_cast<uintptr_t>(address) - reinterpret_cast<uintptr_t>(memory_) < kCapacity + 4096;
  }
  // Bytes from the beginning of the variables or, for dynamic memory, of that.
  size_t offset(const void* address) const;
  Cell* cell(const void* address) const {
    return cells_ + (reinterpret_cast<uintptr_t>(address) - reinterpret_cast<uintptr_t>(memory_)) / 4;
  }

 private:
  static constexpr size_t kCapacity = 512 * 1024;  // a half for each part
  struct Variable {
    const void* key;
    unsigned char* address;
    size_t bytes;
  };

  unsigned char* memory_;
  unsigned char* dynamic_ = nullptr;
  size_t dynamic_bytes_ = 0, static_bytes_ = 0;
  bool shadowed_ = false;
  Variable variables_[64];
  int variable_count_ = 0;
  Cell* cells_;
};

}  // namespace simt
