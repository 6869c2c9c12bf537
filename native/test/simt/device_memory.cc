#include "simt/device_memory.h"

#include <sys/mman.h>

#include <cstdlib>
#include <map>
#include <mutex>
#include <new>
#include <utility>

#include "simt/regions.h"

namespace simt {

namespace {

struct Allocation {
  size_t bytes;
  bool read_only, initialized;
  Cell* cells;
  int device;
};

thread_local int current_device = 0;

std::mutex allocations_mutex;

std::map<uintptr_t, Allocation>& allocations() {
  static auto* all = new std::map<uintptr_t, Allocation>;
  return *all;
}

size_t cell_bytes(const Allocation& allocation) { return (allocation.bytes + 3) / 4 * sizeof(Cell); }

// The allocation that holds these bytes.
std::pair<const uintptr_t, Allocation>& allocation_at(void* address, size_t bytes) {
  auto found = allocations().upper_bound(reinterpret_cast<uintptr_t>(address));
  if (found == allocations().begin()) std::abort();  // a mistake of the test, not of a kernel
  --found;
  if (reinterpret_cast<uintptr_t>(address) + bytes > found->first + found->second.bytes) std::abort();
  return *found;
}

void add_cells(Allocation& allocation) {
  if (allocation.cells != nullptr || allocation.bytes == 0) return;
  // Untouched pages cost nothing.
  void* cells = mmap(nullptr, cell_bytes(allocation), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (cells == MAP_FAILED) throw std::bad_alloc();
  allocation.cells = static_cast<Cell*>(cells);
}

}  // namespace

void set_device(int device) { current_device = device; }

void* allocate(size_t bytes) {
  void* memory = nullptr;
  if (posix_memalign(&memory, 256, bytes > 0 ? bytes : 1) != 0) throw std::bad_alloc();
  std::memset(memory, 0xFF, bytes);
  const std::lock_guard<std::mutex> lock(allocations_mutex);
  allocations()[reinterpret_cast<uintptr_t>(memory)] = {bytes, false, false, nullptr, current_device};
  return memory;
}

void release(void* address) {
  const std::lock_guard<std::mutex> lock(allocations_mutex);
  const Allocation& allocation = allocation_at(address, 0).second;
  if (allocation.cells != nullptr) munmap(static_cast<void*>(allocation.cells), cell_bytes(allocation));
  allocations().erase(reinterpret_cast<uintptr_t>(address));
  std::free(address);
}

void mark_initialized(void* address, size_t bytes) {
  const std::lock_guard<std::mutex> lock(allocations_mutex);
  auto& [begin, allocation] = allocation_at(address, bytes);
  if (bytes == allocation.bytes) allocation.initialized = true;
  if (allocation.initialized || bytes == 0) return;
  add_cells(allocation);
  const size_t first = reinterpret_cast<uintptr_t>(address) - begin, end = first + bytes;
  for (size_t word = first / 4; word * 4 < end; ++word) {
    unsigned written = 0xF;
    if (word * 4 < first) written &= 0xFu << (first - word * 4);
    if (word * 4 + 4 > end) written &= 0xFu >> (word * 4 + 4 - end);
    allocation.cells[word].initialized.fetch_or(static_cast<uint8_t>(written), std::memory_order_relaxed);
  }
}

void set_read_only(void* address, bool read_only) {
  const std::lock_guard<std::mutex> lock(allocations_mutex);
  allocation_at(address, 0).second.read_only = read_only;
}

RegionTable snapshot_regions(bool shadowed) {
  const std::lock_guard<std::mutex> lock(allocations_mutex);
  RegionTable table;
  for (auto& [begin, allocation] : allocations()) {
    if (allocation.device != current_device) continue;
    if (shadowed && !allocation.read_only) add_cells(allocation);
    const bool whole_input = allocation.read_only && allocation.initialized;
    table.regions.push_back({begin, begin + allocation.bytes, allocation.read_only, allocation.initialized,
                             whole_input ? nullptr : allocation.cells});
  }
  table.data = table.regions.data();
  table.count = table.regions.size();
  return table;
}

const Region* RegionTable::find(uintptr_t address) const {
  size_t low = 0, high = count;
  while (low < high) {
    const size_t middle = (low + high) / 2;
    if (data[middle].begin <= address) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low > 0 ? data + (low - 1) : nullptr;
}

}  // namespace simt
