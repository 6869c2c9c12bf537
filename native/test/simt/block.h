// A block of CUDA threads being run by one thread of the host: fibers, the scheduler, barriers and the meetings of a
// warp's lanes. Code that runs on a fiber keeps to plain data: instances of the standard library's templates may be
// shared by the linker with kernel files, whose copies report their accesses (checks.h).
#pragma once

#include <cstdint>
#include <vector>

#include "simt/clocks.h"
#include "simt/fault.h"
#include "simt/fiber.h"
#include "simt/instructions.h"
#include "simt/launch.h"
#include "simt/regions.h"
#include "simt/shared_memory.h"

namespace simt {

constexpr int kWarp = 32;
constexpr int kMaxThreads = 1024;
constexpr int kMaxWarps = kMaxThreads / kWarp;
constexpr int kNamedBarriers = 16;  // 0 is that of __syncthreads
constexpr uint32_t kAllLanes = 0xFFFFFFFFu;

class Block;
struct Thread;

// What the lanes of a warp do together once the last of them has come. `lanes` took part; operands[lane] is what a lane
// gave.
struct Collective {
  const char* name;
  bool whole_warp;  // the .aligned instructions, undefined unless all 32 lanes execute them
  void (*run)(Block& block, int first_thread, uint32_t lanes, void* const* operands);
};

struct AsyncCopy {
  unsigned char* shared;
  const unsigned char* global;
  int bytes, source_bytes;
  uint32_t group;
  bool taken;   // the source was read when the copy was issued
  bool landed;  // and the data written at once
  unsigned char data[16];
};

enum class Waiting : uint8_t { nothing, for_warp, for_barrier, done };

struct Thread {
  Fiber fiber;
  uint3 index;
  uint16_t number;
  uint8_t lane, warp;
  Waiting waiting;
  // What it waits for, or came to last.
  const char* collective_name;
  const Collective* collective;
  uint32_t mask;
  int barrier;
  Site site;
  // Copies issued and not yet waited for.
  AsyncCopy* copies = nullptr;
  uint32_t copy_count = 0, copy_capacity = 0, groups_committed = 0;
};

struct Warp {
  uint32_t live, runnable;
  uint32_t arrived;  // at a collective that is not complete
  uint32_t awaited;  // the masks of those, together
  void* operands[kWarp];
};

struct Barrier {
  int arrived, expected;  // expected of a named barrier; 0 while nobody has come
  int count, result;
  BarrierKind kind;
  const Thread* first;
  uint32_t waiting[kMaxWarps];
  std::vector<uint32_t> knowledge;  // clocks of those that came to a named barrier
};

// What all blocks of a launch share.
struct Launch {
  Grid grid;
  Options options;
  void (*body)(void*);
  void* call;
  size_t call_bytes;
  uint32_t first_owner;
  RegionTable regions;
};

class Block {
 public:
  Block(int threads);
  ~Block();

  // Runs one block to its end; false when something is wrong, which fault() then says.
  bool run(const Launch& launch, uint32_t linear_index, uint64_t seed);
  const Fault& fault() const { return fault_; }
  int capacity() const { return stacks_.count(); }

  Thread& self() { return *self_; }
  const Launch& launch() const { return *launch_; }
  dim3 index() const { return index_; }
  Thread& thread(int number) { return threads_[number]; }
  SharedMemory& shared() { return shared_; }
  Clocks& clocks() { return clocks_; }
  uint32_t owner() const { return launch_->first_owner + linear_index_; }
  Counters& counters() { return counters_; }
  RegionCache& region_cache() { return region_cache_; }
  uint32_t draw();  // a random number

  bool fenced = false;  // some thread has executed __threadfence

  // Of the thread that runs now.
  void meet(uint32_t mask, const Collective& collective, void* operand, Site site);
  int wait_at_block_barrier(BarrierKind kind, int predicate, Site site);
  void wait_at_named_barrier(int id, int threads, bool waits, Site site);

  // Ends the block. The message is put behind kernel, block and thread.
  [[noreturn]] void fail(FaultKind kind, const Thread& thread, const char* format, ...)
      __attribute__((format(printf, 4, 5)));

 private:
  static void fiber_main();
  void prepare(uint32_t linear_index, uint64_t seed);
  void shuffle_order();
  void finish_thread();
  void run_collective(Warp& warp, int warp_number, uint32_t lanes, const Collective& collective);
  void complete_if_due(Barrier& barrier, int id);
  void release(Barrier& barrier, int id);
  void make_runnable(int warp, uint32_t lanes);
  void switch_to_next();
  int next_thread();
  uint32_t any_bit(uint32_t mask);
  int next_in_warp(int warp, int after_lane) const;
  [[noreturn]] void report_deadlock();
  [[noreturn]] void leave();

  const Launch* launch_ = nullptr;
  dim3 index_;
  uint32_t linear_index_ = 0;
  uint64_t random_ = 0;
  int size_ = 0, warp_count_ = 0, live_ = 0;
  bool failed_ = false;
  Thread* self_ = nullptr;
  Fiber host_;
  Stacks stacks_;
  Thread* threads_;
  Warp warps_[kMaxWarps];
  uint32_t runnable_warps_ = 0;
  int warp_order_[kMaxWarps], warp_place_[kMaxWarps], lane_turn_ = 0, burst_ = 0;
  Barrier barriers_[kNamedBarriers];
  SharedMemory shared_;
  Clocks clocks_;
  Counters counters_{};
  RegionCache region_cache_;
  Fault fault_;
};

// The block that this thread of the host runs; null outside of kernels.
Block* current_block();
// The thread that runs now; ends the process when no kernel runs.
Block& running_block(const char* what);
void set_current_block(Block* block);

}  // namespace simt
