// For the native tests on a GPU: what they use of the emulator's launch.h. Schedules are the device's own, and so the tests that name
// some just run more than once.
#pragma once

#include <cstddef>
#include <cstdint>

#include "simt/device_memory.h"
#include "simt/fault.h"

namespace simt {

enum class Schedule { in_order, run_ahead, random };

struct Options {
  Schedule schedule = Schedule::run_ahead;
  uint64_t seed = 0;
  size_t shared_limit = 99 * 1024;
};

inline Options& options() {
  static Options all;
  return all;
}

}  // namespace simt
