// What the emulator finds wrong with a launch.
#pragma once

#include <cstring>
#include <string>

namespace simt {

enum class FaultKind {
  none,
  launch,         // more threads or shared memory than a device has
  deadlock,       // threads wait for others that never come
  divergence,     // lanes of one mask at different collectives, or a collective without some of its lanes
  race,           // two accesses, one of them a write, and no barrier between them
  async_copy,     // data of a cp.async used before its wait
  uninitialized,  // memory read that nobody wrote
  out_of_bounds,  // an address outside of shared memory and of every device allocation
  misaligned,
  read_only,  // a write to an allocation that the kernel may only read
};

const char* fault_name(FaultKind kind);

struct Fault {
  FaultKind kind = FaultKind::none;
  std::string message;  // kernel, block, thread, what it did and where

  bool ok() const { return kind == FaultKind::none; }
};

// A place in a kernel's source, filled in by default arguments of the collectives.
struct Site {
  const char* file = "";
  int line = 0;

  static constexpr Site here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    Site site;
    site.file = file;
    site.line = line;
    return site;
  }
  // Without folders.
  const char* name() const {
    const char* last = std::strrchr(file, '/');
    return last != nullptr ? last + 1 : file;
  }
  bool operator!=(const Site& other) const {
    return line != other.line || (file != other.file && std::strcmp(file, other.file) != 0);
  }
};

}  // namespace simt
