// Shared memory by name, and cp.async. On a device a copy reads its source and lands at some time between its issue and
// its wait. In order, it reads at once and lands at the wait, so that a kernel that forgets to wait reads poison; run
// ahead, it also reads at the wait; at random, it may land at once as well, over data that others still use.
#include <cstdlib>
#include <cstring>

#include "simt/checks.h"

namespace simt {

unsigned char* dynamic_shared() { return running_block("XL_DYNAMIC_SHARED").shared().dynamic(); }

void* static_shared(const void* key, size_t bytes, size_t alignment) {
  Block& block = running_block("XL_SHARED");
  const size_t limit = block.launch().options.shared_limit;
  void* variable = block.shared().variable(key, bytes, alignment, limit);
  if (variable == nullptr) {
    block.fail(FaultKind::launch, block.self(),
               "a shared variable of %zu bytes does not fit into %zu bytes of shared memory", bytes, limit);
  }
  return variable;
}

static void choose_times(Block& block, AsyncCopy* copy) {
  const Schedule schedule = block.launch().options.schedule;
  const uint32_t draw = schedule == Schedule::random ? block.draw() >> 8 & 3u : 0;
  copy->taken = schedule == Schedule::in_order || draw != 0;
  copy->landed = draw >= 2;
}

void async_copy(void* shared, const void* global, int bytes, int source_bytes) {
  Block& block = running_block("cp.async");
  Thread& thread = block.self();
  if (!block.shared().contains(shared, static_cast<size_t>(bytes))) {
    block.fail(FaultKind::out_of_bounds, thread,
               "cp.async writes %d bytes at %p, which is not in the block's shared memory", bytes, shared);
  }
  if (source_bytes < 0 || source_bytes > bytes) {
    block.fail(FaultKind::out_of_bounds, thread, "cp.async of %d bytes from a source of %d", bytes, source_bytes);
  }
  // The device requires the source's alignment even when it reads nothing.
  if (reinterpret_cast<uintptr_t>(shared) % static_cast<size_t>(bytes) != 0 ||
      reinterpret_cast<uintptr_t>(global) % static_cast<size_t>(bytes) != 0) {
    block.fail(FaultKind::misaligned, thread,
               "cp.async of %d bytes from %p to byte %zu of shared memory: both must be aligned to it", bytes, global,
               block.shared().offset(shared));
  }
  begin_async_write(block, thread, shared, static_cast<size_t>(bytes));
  if (thread.copy_count == thread.copy_capacity) {
    thread.copy_capacity = thread.copy_capacity == 0 ? 64 : 2 * thread.copy_capacity;
    thread.copies = static_cast<AsyncCopy*>(std::realloc(thread.copies, thread.copy_capacity * sizeof(AsyncCopy)));
    if (thread.copies == nullptr) std::abort();
  }
  AsyncCopy& copy = thread.copies[thread.copy_count++];
  copy.shared = static_cast<unsigned char*>(shared);
  copy.global = static_cast<const unsigned char*>(global);
  copy.bytes = bytes;
  copy.source_bytes = source_bytes;
  copy.group = thread.groups_committed;
  if (source_bytes > 0) {
    check_access(block, thread, global, static_cast<size_t>(source_bytes), 1, Access::read, "cp.async", nullptr);
  }
  choose_times(block, &copy);
  if (copy.taken) std::memcpy(copy.data, global, static_cast<size_t>(source_bytes));
  std::memset(copy.data + source_bytes, 0, static_cast<size_t>(bytes - source_bytes));
  if (copy.landed) std::memcpy(shared, copy.data, static_cast<size_t>(bytes));
}

void async_commit() { ++running_block("cp.async.commit_group").self().groups_committed; }

void async_wait(int groups_left) {
  Block& block = running_block("cp.async.wait_group");
  Thread& thread = block.self();
  uint32_t kept = 0;
  for (uint32_t index = 0; index < thread.copy_count; ++index) {
    AsyncCopy& copy = thread.copies[index];
    if (copy.group + static_cast<uint32_t>(groups_left) >= thread.groups_committed) {
      if (kept != index) thread.copies[kept] = copy;
      ++kept;
      continue;
    }
    const size_t bytes = static_cast<size_t>(copy.bytes), source_bytes = static_cast<size_t>(copy.source_bytes);
    if (!copy.taken && source_bytes > 0) {
      check_access(block, thread, copy.global, source_bytes, 1, Access::read, "cp.async", nullptr);
      std::memcpy(copy.data, copy.global, source_bytes);
    }
    end_async_write(block, thread, copy.shared, bytes);
    if (!copy.landed) std::memcpy(copy.shared, copy.data, bytes);
  }
  thread.copy_count = kept;
}

}  // namespace simt
