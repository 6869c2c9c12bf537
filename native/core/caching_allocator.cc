#include "core/caching_allocator.h"

#include <algorithm>
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

struct CachingAllocator::Reserve {
  FreeBlocks free;
};

CachingAllocator::CachingAllocator(const Backend* backend, int32_t device, BackendStream* stream)
    : backend_(backend), device_(device), stream_(stream) {
  DeviceInfo info;
  if (backend_->device_info(device_, &info).ok()) device_bytes_ = info.memory_bytes;
}

CachingAllocator::~CachingAllocator() {
  const auto deallocate = [this](const FreeBlocks& all) {
    for (const auto& [size, blocks] : all) {
      for (void* block : blocks) backend_->deallocate(device_, block, size);
    }
  };
  deallocate(free_);
  for (const auto& reserve : reserves_) deallocate(reserve->free);
  for (const auto& [block, live] : live_) backend_->deallocate(device_, block, live.size);
}

size_t CachingAllocator::size_class(size_t bytes) {
  size_t step = kSmallestStep;
  while (step * kStepsPerDoubling * 2 < bytes) step *= 2;
  return bytes == 0 ? step : (bytes + step - 1) / step * step;
}

void* CachingAllocator::take(FreeBlocks* blocks, size_t size, size_t* actual) {
  // A somewhat larger block serves as well: sizes that vary from call to call then share blocks.
  const auto found = blocks->lower_bound(size);
  if (found == blocks->end() || found->first > size + size / 4) return nullptr;
  void* block = found->second.back();
  *actual = found->first;
  found->second.pop_back();
  if (found->second.empty()) blocks->erase(found);
  return block;
}

void* CachingAllocator::find(size_t size, size_t* actual) {
  if (open_ != nullptr) {
    if (void* block = take(&open_->free, size, actual)) {
      statistics_.live_bytes -= static_cast<int64_t>(*actual);  // it was counted while it was reserved
      return block;
    }
  }
  if (void* block = take(&free_, size, actual)) {
    statistics_.cached_bytes -= static_cast<int64_t>(*actual);
    return block;
  }
  *actual = size;
  void* block = backend_->allocate(device_, size);
  // While a recording is made, the stream cannot be waited for.
  if (block == nullptr && !free_.empty() && open_ == nullptr) {
    release_cached();
    block = backend_->allocate(device_, size);
  }
  return block;
}

Status CachingAllocator::allocate(size_t bytes, void** memory) {
  if (device_bytes_ > 0 && bytes > static_cast<size_t>(device_bytes_)) {
    return make_status(StatusCode::out_of_memory, "%zu bytes wanted, the device has %lld", bytes,
                       static_cast<long long>(device_bytes_));
  }
  size_t actual = 0;
  void* const block = find(size_class(bytes), &actual);
  if (block == nullptr) {
    return make_status(StatusCode::out_of_memory, "%zu bytes wanted, %lld are in use, the device has %lld", bytes,
                       static_cast<long long>(statistics_.live_bytes), static_cast<long long>(device_bytes_));
  }
  live_.emplace(block, Live{actual, open_});
  statistics_.live_bytes += static_cast<int64_t>(actual);
  statistics_.live_blocks += 1;
  if (statistics_.live_bytes > statistics_.peak_bytes) statistics_.peak_bytes = statistics_.live_bytes;
  *memory = block;
  return ok_status();
}

void CachingAllocator::release(void* memory) {
  const auto found = live_.find(memory);
  if (found == live_.end()) return;
  const auto [size, reserve] = found->second;
  live_.erase(found);
  statistics_.live_blocks -= 1;
  if (reserve != nullptr) {
    reserve->free[size].push_back(memory);
    return;
  }
  statistics_.live_bytes -= static_cast<int64_t>(size);
  statistics_.cached_bytes += static_cast<int64_t>(size);
  free_[size].push_back(memory);
}

CachingAllocator::Reserve* CachingAllocator::begin_reserve() {
  reserves_.push_back(std::make_unique<Reserve>());
  open_ = reserves_.back().get();
  return open_;
}

void CachingAllocator::drop_reserve(Reserve* reserve) {
  if (open_ == reserve) open_ = nullptr;
  for (auto& [block, live] : live_) {
    if (live.reserve == reserve) live.reserve = nullptr;
  }
  for (auto& [size, blocks] : reserve->free) {
    const auto bytes = static_cast<int64_t>(size * blocks.size());
    statistics_.live_bytes -= bytes;
    statistics_.cached_bytes += bytes;
    std::vector<void*>& free = free_[size];
    free.insert(free.end(), blocks.begin(), blocks.end());
  }
  const auto is_it = [reserve](const std::unique_ptr<Reserve>& each) { return each.get() == reserve; };
  reserves_.erase(std::find_if(reserves_.begin(), reserves_.end(), is_it));
}

bool CachingAllocator::is_reserved(const void* memory, const Reserve* reserve) const {
  const auto found = live_.find(const_cast<void*>(memory));
  return found != live_.end() && found->second.reserve == reserve;
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
