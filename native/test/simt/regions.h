// The allocations that a launch may use, looked up by address.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "simt/shadow.h"

namespace simt {

struct Region {
  uintptr_t begin, end;
  bool read_only;
  bool initialized;  // as a whole; else the cells know
  Cell* cells;       // null for read-only regions that are initialized as a whole, or not at all

  bool contains(uintptr_t address, size_t bytes) const { return address >= begin && address + bytes <= end; }
};

// Sorted by address.
struct RegionTable {
  std::vector<Region> regions;
  const Region* data = nullptr;
  size_t count = 0;

  // The last region that begins at or below the address.
  const Region* find(uintptr_t address) const;
};

// A table of the present allocations, with cells for the writable ones if `shadowed`.
RegionTable snapshot_regions(bool shadowed);

// What the last lookups found, kept by each block.
struct RegionCache {
  const Region* last = nullptr;
  uintptr_t image_page = 0;  // a page of the program's own constants
};

}  // namespace simt
