// Device memory with its book-keeping done when work is enqueued: since a stream runs in order, a block freed now may be handed to an
// operator enqueued later without waiting. Used by the enqueuing thread only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <unordered_map>
#include <vector>

#include "core/backend.h"

namespace xlformers {

struct AllocatorStatistics {
  int64_t live_bytes = 0;    // handed out, or reserved
  int64_t cached_bytes = 0;  // kept for reuse
  int64_t peak_bytes = 0;    // highest live_bytes since the last reset
  int64_t live_blocks = 0;
};

class CachingAllocator {
 public:
  CachingAllocator(const Backend* backend, int32_t device, BackendStream* stream);
  // The stream must be closed already: blocks are given back at once.
  ~CachingAllocator();
  CachingAllocator(const CachingAllocator&) = delete;
  CachingAllocator& operator=(const CachingAllocator&) = delete;

  // 0 bytes give a distinct, empty block. Fails with out_of_memory naming the bytes wanted and those of the device.
  Status allocate(size_t bytes, void** memory);
  void release(void* memory);

  // Memory of a recording: what is allocated until end_reserve() stays with the reserve, released or not, until the reserve is dropped;
  // meanwhile only allocations of the same recording are given it again. One at a time may be open.
  struct Reserve;
  Reserve* begin_reserve();
  void end_reserve() { open_ = nullptr; }
  void drop_reserve(Reserve* reserve);
  bool is_reserved(const void* memory, const Reserve* reserve) const;

  // Gives unused blocks back to the system. Waits for the stream, since queued operators may still use them.
  void release_cached();

  // The error that the stream reported while release_cached() waited for it (ok: none), once. The caller passes it on with its next
  // fence, since the stream itself has forgotten it by then.
  Status take_error();

  const AllocatorStatistics& statistics() const { return statistics_; }
  void reset_peak() { statistics_.peak_bytes = statistics_.live_bytes; }

 private:
  using FreeBlocks = std::map<size_t, std::vector<void*>>;  // by size
  struct Live {
    size_t size;
    Reserve* reserve;  // null: none
  };

  static size_t size_class(size_t bytes);
  static void* take(FreeBlocks* blocks, size_t size, size_t* actual);
  // From the open reserve, from what is cached, or from the backend; null when there is none left.
  void* find(size_t size, size_t* actual);

  const Backend* backend_;
  int32_t device_;
  BackendStream* stream_;
  int64_t device_bytes_ = 0;
  AllocatorStatistics statistics_;
  Status error_;
  FreeBlocks free_;
  std::unordered_map<void*, Live> live_;  // handed out
  std::vector<std::unique_ptr<Reserve>> reserves_;
  Reserve* open_ = nullptr;
};

}  // namespace xlformers
