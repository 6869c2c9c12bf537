#include "core/caching_allocator.h"

#include <condition_variable>
#include <mutex>

namespace xlformers {
namespace {

constexpr size_t kSmallestStep = 64;
// Larger sizes are rounded up to a multiple of an eighth of their power of two: at most 12.5 % is lost.
constexpr size_t kStepsPerDoubling = 8;

struct Waiter {
  std::mutex mutex;
  std::condition_variable done;
  bool reached = false;
  Status status;
};

void notify(void* user, const Status* status) {
  auto* waiter = static_cast<Waiter*>(user);
  std::lock_guard<std::mutex> lock(waiter->mutex);
  waiter->status = *status;
  waiter->reached = true;
  waiter->done.notify_one();
}

}  // namespace

CachingAllocator::CachingAllocator(const Backend* backend, int32_t device, BackendStream* stream)
    : backend_(backend), device_(device), stream_(stream) {
  DeviceInfo info;
  if (backend_->device_info(device_, &info).ok()) device_bytes_ = info.memory_bytes;
}

CachingAllocator::~CachingAllocator() {
  for (const auto& [size, blocks] : free_) {
    for (void* block : blocks) backend_->deallocate(device_, block, size);
  }
  for (const auto& [block, size] : live_) backend_->deallocate(device_, block, size);
}

size_t CachingAllocator::size_class(size_t bytes) {
  size_t step = kSmallestStep;
  while (step * kStepsPerDoubling * 2 < bytes) step *= 2;
  return bytes == 0 ? step : (bytes + step - 1) / step * step;
}

void* CachingAllocator::take_cached(size_t size) {
  // A somewhat larger block serves as well: sizes that vary from call to call then share blocks.
  const auto found = free_.lower_bound(size);
  if (found == free_.end() || found->first > size + size / 4) return nullptr;
  void* block = found->second.back();
  const size_t actual = found->first;
  found->second.pop_back();
  if (found->second.empty()) free_.erase(found);
  statistics_.cached_bytes -= static_cast<int64_t>(actual);
  live_.emplace(block, actual);
  statistics_.live_bytes += static_cast<int64_t>(actual);
  return block;
}

Status CachingAllocator::allocate(size_t bytes, void** memory) {
  if (device_bytes_ > 0 && bytes > static_cast<size_t>(device_bytes_)) {
    return make_status(StatusCode::out_of_memory, "%zu bytes wanted, the device has %lld", bytes,
                       static_cast<long long>(device_bytes_));
  }
  const size_t size = size_class(bytes);
  void* block = take_cached(size);
  if (block == nullptr) {
    block = backend_->allocate(device_, size);
    if (block == nullptr && !free_.empty()) {
      release_cached();
      block = backend_->allocate(device_, size);
    }
    if (block == nullptr) {
      return make_status(StatusCode::out_of_memory, "%zu bytes wanted, %lld are in use, the device has %lld", bytes,
                         static_cast<long long>(statistics_.live_bytes), static_cast<long long>(device_bytes_));
    }
    live_.emplace(block, size);
    statistics_.live_bytes += static_cast<int64_t>(size);
  }
  statistics_.live_blocks += 1;
  if (statistics_.live_bytes > statistics_.peak_bytes) statistics_.peak_bytes = statistics_.live_bytes;
  *memory = block;
  return ok_status();
}

void CachingAllocator::release(void* memory) {
  const auto found = live_.find(memory);
  if (found == live_.end()) return;
  const size_t size = found->second;
  live_.erase(found);
  statistics_.live_bytes -= static_cast<int64_t>(size);
  statistics_.live_blocks -= 1;
  statistics_.cached_bytes += static_cast<int64_t>(size);
  free_[size].push_back(memory);
}

void CachingAllocator::release_cached() {
  if (free_.empty()) return;
  Waiter waiter;
  if (backend_->fence(stream_, notify, &waiter).ok()) {
    std::unique_lock<std::mutex> lock(waiter.mutex);
    waiter.done.wait(lock, [&] { return waiter.reached; });
    if (error_.ok()) error_ = waiter.status;
  }
  for (const auto& [size, blocks] : free_) {
    for (void* block : blocks) backend_->deallocate(device_, block, size);
  }
  free_.clear();
  statistics_.cached_bytes = 0;
}

Status CachingAllocator::take_error() {
  const Status error = error_;
  error_ = ok_status();
  return error;
}

}  // namespace xlformers
