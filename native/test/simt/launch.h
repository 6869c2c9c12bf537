// Runs a kernel on the host: blocks on a few threads of the host, the threads of a block as fibers of one of those.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "simt/fault.h"
#include "simt/types.h"

namespace simt {

// In which order the threads of a block come to run. A correct kernel gives the same result under all.
enum class Schedule {
  in_order,   // every thread in turn, as far as it gets: close to lock step
  run_ahead,  // a warp goes on until all its threads wait for other warps; the seed shuffles warps and lanes
  random,     // a warp goes on for a while, then any other, its lanes in any order; blocks in random order too
};

#if defined(SIMT_CHECKED)
constexpr bool kChecked = true;
#else
constexpr bool kChecked = false;  // kernels were compiled without calls to the checks
#endif

struct Options {
  Schedule schedule = Schedule::run_ahead;
  uint64_t seed = 0;     // 0: natural order for run_ahead
  int host_threads = 2;  // 1 makes the order of atomics repeatable
  // Every load and store: bounds, alignment, memory that nobody wrote, copies not waited for; and races.
  bool check_memory = kChecked;
  bool check_races = kChecked;
  size_t shared_limit = 99 * 1024;  // bytes per block: compute capability 8.6, 8.9 and 12.0 have the least
};

// Holds for every launch of the process that begins later.
Options& options();

// Since the process began, all launches together.
struct Counters {
  uint64_t blocks, switches, collectives, accesses;
};
Counters counters();

struct Grid {
  const char* kernel;  // for reports
  dim3 grid, block;
  size_t shared_bytes;
};

// Launches that were noted instead of run, to be run again and again.
class Recording {
 public:
  // In the order of the launches, up to the first fault.
  Fault replay() const;

 private:
  friend Fault run_grid(const Grid& grid, void (*body)(void*), void* call, size_t call_bytes);
  struct Noted {
    Grid grid;
    void (*body)(void*);
    std::unique_ptr<std::max_align_t[]> call;
    size_t call_bytes;
  };
  std::vector<Noted> launches_;
};

// The calling thread's launches are noted in *recording; null: they run.
void record_launches(Recording* recording);

Fault run_grid(const Grid& grid, void (*body)(void*), void* call, size_t call_bytes);

template <typename... Parameters, typename... Arguments>
Fault launch(const Grid& grid, void (*kernel)(Parameters...), Arguments&&... arguments) {
  static_assert((std::is_trivially_destructible<Parameters>::value && ...), "parameters of kernels are copied byte by byte");
  struct Call {
    void (*kernel)(Parameters...);
    std::tuple<Parameters...> arguments;
  } call{kernel, std::tuple<Parameters...>(std::forward<Arguments>(arguments)...)};
  const auto body = [](void* given) {
    const Call* call = static_cast<const Call*>(given);
    std::apply(call->kernel, call->arguments);
  };
  return run_grid(grid, body, &call, sizeof call);
}

}  // namespace simt
