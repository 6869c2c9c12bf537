// Memory that kernels may use: everything else, host memory included, is out of bounds for them.
#pragma once

#include <cstddef>
#include <cstring>
#include <vector>

namespace simt {

// Of the calling thread, 0 at first: kernels that it launches may use memory that was allocated on the same device.
void set_device(int device);

// Exactly `bytes` bytes, aligned to 256, filled with ones (a NaN in every format), known as uninitialized.
void* allocate(size_t bytes);
void release(void* address);
// What the host wrote: these bytes of an allocation.
void mark_initialized(void* address, size_t bytes);
// The allocation that holds the address.
void set_read_only(void* address, bool read_only);

// For tests: an array on the "device".
template <typename T>
class DeviceArray {
 public:
  explicit DeviceArray(size_t size) : data_(static_cast<T*>(allocate(size * sizeof(T)))), size_(size) {}
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(values.size()) {
    if (size_ > 0) std::memcpy(static_cast<void*>(data_), values.data(), size_ * sizeof(T));
    mark_initialized(data_, size_ * sizeof(T));
  }
  ~DeviceArray() { release(data_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  // An input: kernels may not write to it.
  DeviceArray& read_only() {
    set_read_only(data_, true);
    return *this;
  }
  T* data() { return data_; }
  size_t size() const { return size_; }
  T& operator[](size_t index) { return data_[index]; }
  const T& operator[](size_t index) const { return data_[index]; }
  std::vector<T> values() const { return std::vector<T>(data_, data_ + size_); }

 private:
  T* data_;
  size_t size_;
};

}  // namespace simt
