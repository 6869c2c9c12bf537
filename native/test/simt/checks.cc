#include "simt/checks.h"

#include <dlfcn.h>

#include <cstdio>

namespace simt {

static const char* verb(Access access) {
  switch (access) {
    case Access::read: return "reads";
    case Access::write: return "writes";
    case Access::atomic: return "atomically changes";
  }
  return "";
}

static const char* past(Access access) {
  switch (access) {
    case Access::read: return "read";
    case Access::write: return "written";
    case Access::atomic: return "atomically changed";
  }
  return "";
}

// " by cp.async" or " at module+offset", which addr2line turns into a line.
static const char* origin(const char* what, const void* place, char (&text)[256]) {
  Dl_info info;
  if (what != nullptr) {
    std::snprintf(text, sizeof text, " by %s", what);
  } else if (place != nullptr && dladdr(place, &info) != 0) {
    const auto offset = static_cast<const char*>(place) - static_cast<const char*>(info.dli_fbase) - 1;
    char command[512];
    std::snprintf(command, sizeof command, "addr2line -s -e '%s' 0x%tx 2>/dev/null", info.dli_fname, offset);
    char line[128] = "";
    if (std::FILE* pipe = popen(command, "r")) {
      if (std::fgets(line, sizeof line, pipe) == nullptr) line[0] = '\0';
      pclose(pipe);
    }
    for (char* end = line; *end != '\0'; ++end) {
      if (*end == '\n' || *end == ' ') *end = '\0';
    }
    if (line[0] == '\0' || line[0] == '?') std::snprintf(line, sizeof line, "%s+0x%tx", info.dli_fname, offset);
    std::snprintf(text, sizeof text, " at %s", line);
  } else {
    text[0] = '\0';
  }
  return text;
}

namespace {

// One access of a thread, as reports name it.
struct Request {
  Block& block;
  const Thread& thread;
  const void* address;
  size_t bytes;
  Access access;
  const char* what;
  const void* place;

  [[noreturn]] void fail(FaultKind kind, const char* memory, size_t offset, const char* detail) const {
    set_current_block(nullptr);
    char text[256];
    block.fail(kind, thread, "%s %zu bytes at byte %zu of %s%s%s", verb(access), bytes, offset, memory,
               origin(what, place, text), detail);
  }
};

}  // namespace

static void check_cells(const Request& request, Cell* cell, size_t first_byte, const char* memory, size_t offset,
                        bool known_initialized) {
  Block& block = request.block;
  const Options& options = block.launch().options;
  const bool writes = request.access == Access::write;
  size_t done = 0;
  for (; done < request.bytes; ++cell) {
    const size_t at = (first_byte + done) & 3u;
    const size_t count = request.bytes - done < 4 - at ? request.bytes - done : 4 - at;
    const unsigned bytes = ((1u << count) - 1u) << at;
    done += count;
    if ((cell->pending.load(std::memory_order_relaxed) & bytes) != 0) {
      request.fail(FaultKind::async_copy, memory, offset, ", which a cp.async that nobody has waited for will write");
    }
    const unsigned initialized = cell->initialized.load(std::memory_order_relaxed);
    if ((initialized & bytes) != bytes) {
      if (!writes && !known_initialized)
        request.fail(FaultKind::uninitialized, memory, offset, ", which nobody has written");
      if (writes) cell->initialized.fetch_or(static_cast<uint8_t>(bytes), std::memory_order_relaxed);
    }
    if (!options.check_races) continue;
    const Conflict conflict = note_access(cell, bytes, request.access, request.thread.number, block.clocks(),
                                          block.owner(), block.launch().first_owner, block.fenced);
    if (conflict.kind == Conflict::none) continue;
    char detail[160];
    const uint3 other = block.thread(conflict.thread).index;
    if (conflict.kind == Conflict::same_block) {
      std::snprintf(detail, sizeof detail, ", %s by thread (%u, %u, %u) with no barrier between", past(conflict.access),
                    other.x, other.y, other.z);
    } else {
      std::snprintf(detail, sizeof detail, ", %s by thread (%u, %u, %u) of block number %u in the same launch",
                    past(conflict.access), other.x, other.y, other.z, conflict.block - block.launch().first_owner);
    }
    request.fail(FaultKind::race, memory, offset, detail);
  }
}

// Constants of the program and the arguments of the launch may be read.
static bool is_constant(Block& block, uintptr_t address) {
  const uintptr_t call = reinterpret_cast<uintptr_t>(block.launch().call);
  if (address - call < block.launch().call_bytes) return true;
  const uintptr_t page = address >> 12;
  if (block.region_cache().image_page == page) return true;
  Dl_info info;
  if (dladdr(reinterpret_cast<const void*>(address), &info) == 0) return false;
  block.region_cache().image_page = page;
  return true;
}

void check_access(Block& block, const Thread& thread, const void* address, size_t bytes, size_t alignment,
                  Access access, const char* what, const void* place) {
  if (!block.launch().options.check_memory) return;
  ++block.counters().accesses;
  const Request request = {block, thread, address, bytes, access, what, place};
  const uintptr_t begin = reinterpret_cast<uintptr_t>(address);
  SharedMemory& shared = block.shared();
  if (shared.surrounds(address)) {
    const size_t offset = shared.offset(address);
    if (!shared.contains(address, bytes)) request.fail(FaultKind::out_of_bounds, "shared memory", offset, "");
    if (begin % alignment != 0) request.fail(FaultKind::misaligned, "shared memory", offset, "");
    check_cells(request, shared.cell(address), begin & 3u, "shared memory", offset, false);
    return;
  }
  RegionCache& cache = block.region_cache();
  const Region* region = cache.last;
  if (region == nullptr || !region->contains(begin, bytes)) {
    region = block.launch().regions.find(begin);
    if (region == nullptr || !region->contains(begin, bytes)) {
      if (access == Access::read && is_constant(block, begin)) return;
      char memory[160] = "memory that is not the device's";
      size_t offset = begin;
      if (region != nullptr && begin - region->end < 1 << 20) {
        offset = begin - region->begin;
        std::snprintf(memory, sizeof memory, "an allocation of %zu bytes",
                      static_cast<size_t>(region->end - region->begin));
      }
      request.fail(FaultKind::out_of_bounds, memory, offset, "");
    }
    cache.last = region;
  }
  const size_t offset = begin - region->begin;
  char memory[64] = "device memory";
  if (begin % alignment != 0) request.fail(FaultKind::misaligned, memory, offset, "");
  if (region->read_only) {
    if (access != Access::read) request.fail(FaultKind::read_only, memory, offset, ", an input");
    if (!region->initialized && region->cells == nullptr)
      request.fail(FaultKind::uninitialized, memory, offset, ", which nobody has written");
  }
  if (region->cells == nullptr) return;
  check_cells(request, region->cells + offset / 4, offset & 3u, memory, offset, region->initialized);
}

void begin_async_write(Block& block, const Thread& thread, const void* address, size_t bytes) {
  if (!block.launch().options.check_memory) return;
  // Whoever accessed these bytes must be ordered before the copy.
  check_access(block, thread, address, bytes, bytes, Access::write, "cp.async", nullptr);
  Cell* cell = block.shared().cell(address);
  for (size_t word = 0; word < bytes / 4; ++word) cell[word].pending.store(0xF, std::memory_order_relaxed);
}

void end_async_write(Block& block, const Thread& thread, const void* address, size_t bytes) {
  if (!block.launch().options.check_memory) return;
  Cell* cell = block.shared().cell(address);
  for (size_t word = 0; word < bytes / 4; ++word) cell[word].pending.store(0, std::memory_order_relaxed);
  check_access(block, thread, address, bytes, bytes, Access::write, "cp.async", nullptr);
}

}  // namespace simt
