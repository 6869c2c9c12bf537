#include "simt/launch.h"

#include <atomic>
#include <cstdio>
#include <cstring>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "simt/block.h"

namespace simt {

namespace {

// Blocks keep stacks and shared memory from launch to launch.
std::mutex pool_mutex;
std::vector<std::unique_ptr<Block>>& pool() {
  static auto* blocks = new std::vector<std::unique_ptr<Block>>;
  return *blocks;
}

std::atomic<uint32_t> next_owner{1};
std::atomic<uint64_t> total_blocks{0}, total_switches{0}, total_collectives{0}, total_accesses{0};

std::unique_ptr<Block> take_block(int threads) {
  const std::lock_guard<std::mutex> lock(pool_mutex);
  for (auto& block : pool()) {
    if (block == nullptr || block->capacity() < threads) continue;
    std::unique_ptr<Block> taken = std::move(block);
    block = std::move(pool().back());
    pool().pop_back();
    return taken;
  }
  int capacity = 128;
  while (capacity < threads) capacity *= 2;
  return std::make_unique<Block>(capacity);
}

void give_block(std::unique_ptr<Block> block) {
  Counters& counters = block->counters();
  total_blocks += counters.blocks;
  total_switches += counters.switches;
  total_collectives += counters.collectives;
  total_accesses += counters.accesses;
  counters = Counters{};
  const std::lock_guard<std::mutex> lock(pool_mutex);
  pool().push_back(std::move(block));
}

thread_local Recording* recorder = nullptr;

Fault launch_fault(const Grid& grid, const char* format, unsigned long long got, unsigned long long limit) {
  char text[256];
  std::snprintf(text, sizeof text, format, got, limit);
  return {FaultKind::launch, std::string(grid.kernel) + ": launch: " + text};
}

}  // namespace

Options& options() {
  static Options all;
  return all;
}

Counters counters() { return {total_blocks, total_switches, total_collectives, total_accesses}; }

void record_launches(Recording* recording) { recorder = recording; }

Fault Recording::replay() const {
  for (const Noted& noted : launches_) {
    const Fault fault = run_grid(noted.grid, noted.body, noted.call.get(), noted.call_bytes);
    if (!fault.ok()) return fault;
  }
  return {};
}

Fault run_grid(const Grid& grid, void (*body)(void*), void* call, size_t call_bytes) {
  Launch launch;
  launch.grid = grid;
  launch.options = options();
  const dim3 blocks = grid.grid, block = grid.block;
  const uint64_t threads = uint64_t{block.x} * block.y * block.z;
  if (threads == 0 || threads > kMaxThreads || block.z > 64) {
    return launch_fault(grid, "%llu threads in a block, expected 1 to %llu", threads, kMaxThreads);
  }
  if (blocks.x == 0 || blocks.y == 0 || blocks.z == 0) return launch_fault(grid, "the grid is empty", 0, 0);
  if (blocks.x > 0x7FFFFFFFu || blocks.y > 65535 || blocks.z > 65535) {
    return launch_fault(grid, "a grid of %llu rows, expected at most %llu", blocks.y > 65535 ? blocks.y : blocks.z,
                        65535);
  }
  if (grid.shared_bytes > launch.options.shared_limit) {
    return launch_fault(grid, "%llu bytes of shared memory, expected at most %llu", grid.shared_bytes,
                        launch.options.shared_limit);
  }
  if (recorder != nullptr) {
    std::unique_ptr<std::max_align_t[]> copy(new std::max_align_t[call_bytes / sizeof(std::max_align_t) + 1]);
    std::memcpy(copy.get(), call, call_bytes);
    recorder->launches_.push_back({grid, body, std::move(copy), call_bytes});
    return {};
  }
  const uint64_t count = uint64_t{blocks.x} * blocks.y * blocks.z;
  launch.body = body;
  launch.call = call;
  launch.call_bytes = call_bytes;
  launch.first_owner = next_owner.fetch_add(static_cast<uint32_t>(count));
  launch.regions = snapshot_regions(launch.options.check_memory && launch.options.check_races);

  // Random blocks come in the order of a walk with a step that has no factor in common with their number.
  uint64_t step = 1, start = 0;
  if (launch.options.schedule == Schedule::random) {
    const auto common = [](uint64_t a, uint64_t b) {
      while (b != 0) {
        const uint64_t rest = a % b;
        a = b;
        b = rest;
      }
      return a;
    };
    step = (launch.options.seed * 2654435761u + 1) % count + 1;
    while (common(step, count) != 1) ++step;
    start = launch.options.seed % count;
  }

  std::atomic<uint64_t> next{0};
  std::mutex fault_mutex;
  Fault fault;
  uint64_t fault_place = count;
  const auto work = [&] {
    std::unique_ptr<Block> runner = take_block(static_cast<int>(threads));
    for (uint64_t place = next++; place < count; place = next++) {
      const uint32_t index = static_cast<uint32_t>((start + place * step) % count);
      if (runner->run(launch, index, launch.options.seed)) continue;
      const std::lock_guard<std::mutex> lock(fault_mutex);
      if (place < fault_place) {
        fault_place = place;
        fault = runner->fault();
      }
      next = count;
    }
    give_block(std::move(runner));
  };
  std::vector<std::thread> helpers;
  for (uint64_t helper = 1; helper < static_cast<uint64_t>(launch.options.host_threads) && helper < count; ++helper) {
    helpers.emplace_back(work);
  }
  work();
  for (std::thread& helper : helpers) helper.join();
  return fault;
}

}  // namespace simt
