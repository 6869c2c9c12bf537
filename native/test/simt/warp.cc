// Shuffles, votes, reductions and barriers.
#include <cstdint>

#include "simt/block.h"

namespace simt {

uint3 thread_index() { return running_block("threadIdx").self().index; }
dim3 block_size() { return running_block("blockDim").launch().grid.block; }
dim3 grid_size() { return running_block("gridDim").launch().grid.grid; }
uint3 block_index() {
  const dim3 index = running_block("blockIdx").index();
  return {index.x, index.y, index.z};
}

int block_barrier(BarrierKind kind, int predicate, Site site) {
  return running_block("__syncthreads").wait_at_block_barrier(kind, predicate, site);
}

void named_barrier(int id, int threads, bool waits, Site site) {
  running_block("barrier_sync").wait_at_named_barrier(id, threads, waits, site);
}

// Only __syncwarp orders memory: shuffles and votes do not (CUDA C++ Programming Guide, "Warp Vote Functions").
void warp_barrier(uint32_t mask, Site site) {
  static const Collective collective = {"__syncwarp", false, [](Block& block, int first, uint32_t lanes, void* const*) {
                                          if (block.launch().options.check_memory) {
                                            block.clocks().synchronize_lanes(first, lanes);
                                          }
                                        }};
  running_block("__syncwarp").meet(mask, collective, nullptr, site);
}

namespace {

struct ShuffleOperand {
  uint64_t value, result;
  int source;  // lane
};

struct VoteOperand {
  bool predicate;
  uint32_t ballot, lanes;
};

struct ReduceOperand {
  int64_t value, result;
  Reduction kind;
};

void run_shuffle(Block& block, int first, uint32_t lanes, void* const* operands) {
  for (uint32_t rest = lanes; rest != 0; rest &= rest - 1) {
    const int lane = __builtin_ctz(rest);
    ShuffleOperand& mine = *static_cast<ShuffleOperand*>(operands[lane]);
    if ((lanes >> mine.source & 1u) == 0) {
      const Thread& thread = block.thread(first + lane);
      block.fail(FaultKind::divergence, thread, "%s (%s:%d): lane %d reads lane %d, which takes no part (mask %08x)",
                 thread.collective_name, thread.site.name(), thread.site.line, lane, mine.source, lanes);
    }
    mine.result = static_cast<const ShuffleOperand*>(operands[mine.source])->value;
  }
}

void run_vote(Block&, int, uint32_t lanes, void* const* operands) {
  uint32_t ballot = 0;
  for (uint32_t rest = lanes; rest != 0; rest &= rest - 1) {
    const int lane = __builtin_ctz(rest);
    if (static_cast<const VoteOperand*>(operands[lane])->predicate) ballot |= 1u << lane;
  }
  for (uint32_t rest = lanes; rest != 0; rest &= rest - 1) {
    VoteOperand& mine = *static_cast<VoteOperand*>(operands[__builtin_ctz(rest)]);
    mine.ballot = ballot;
    mine.lanes = lanes;
  }
}

int64_t combine(Reduction kind, int64_t a, int64_t b) {
  switch (kind) {
    case Reduction::add: return a + b;
    case Reduction::minimum: return b < a ? b : a;
    case Reduction::maximum: return b > a ? b : a;
    case Reduction::bit_and: return a & b;
    case Reduction::bit_or: return a | b;
    case Reduction::bit_xor: return a ^ b;
  }
  return 0;
}

void run_reduce(Block&, int, uint32_t lanes, void* const* operands) {
  const ReduceOperand& first = *static_cast<const ReduceOperand*>(operands[__builtin_ctz(lanes)]);
  int64_t total = first.value;
  for (uint32_t rest = lanes & (lanes - 1); rest != 0; rest &= rest - 1) {
    total = combine(first.kind, total, static_cast<const ReduceOperand*>(operands[__builtin_ctz(rest)])->value);
  }
  for (uint32_t rest = lanes; rest != 0; rest &= rest - 1) {
    static_cast<ReduceOperand*>(operands[__builtin_ctz(rest)])->result = total;
  }
}

const Collective kShuffles[] = {{"__shfl_sync", false, run_shuffle},
                                {"__shfl_up_sync", false, run_shuffle},
                                {"__shfl_down_sync", false, run_shuffle},
                                {"__shfl_xor_sync", false, run_shuffle}};
const Collective kVotes[] = {
    {"__ballot_sync", false, run_vote}, {"__any_sync", false, run_vote}, {"__all_sync", false, run_vote}};
const Collective kReductions[] = {{"__reduce_add_sync", false, run_reduce}, {"__reduce_min_sync", false, run_reduce},
                                  {"__reduce_max_sync", false, run_reduce}, {"__reduce_and_sync", false, run_reduce},
                                  {"__reduce_or_sync", false, run_reduce},  {"__reduce_xor_sync", false, run_reduce}};

}  // namespace

// Segments of `width` lanes, as the PTX instruction shfl has them: a lane that would read beyond its segment reads
// itself.
uint64_t shuffle(ShuffleKind kind, uint32_t mask, uint64_t value, int operand, int width, Site site) {
  Block& block = running_block("__shfl_sync");
  const int lane = block.self().lane;
  if (width < 1 || width > kWarp || (width & (width - 1)) != 0) {
    block.fail(FaultKind::divergence, block.self(), "a shuffle (%s:%d) of width %d, expected a power of two up to 32",
               site.name(), site.line, width);
  }
  const int first = lane & ~(width - 1), last = first + width - 1;
  int source = lane;
  switch (kind) {
    case ShuffleKind::index: source = first | (operand & (width - 1)); break;
    case ShuffleKind::up: source = operand <= lane - first ? lane - operand : lane; break;
    case ShuffleKind::down: source = operand <= last - lane ? lane + operand : lane; break;
    case ShuffleKind::exclusive_or: source = (lane ^ operand) <= last ? lane ^ operand : lane; break;
  }
  ShuffleOperand mine = {value, 0, source & (kWarp - 1)};
  block.meet(mask, kShuffles[static_cast<int>(kind)], &mine, site);
  return mine.result;
}

uint32_t vote(Vote kind, uint32_t mask, bool predicate, Site site) {
  VoteOperand mine = {predicate, 0, 0};
  running_block("__ballot_sync").meet(mask, kVotes[static_cast<int>(kind)], &mine, site);
  switch (kind) {
    case Vote::ballot: return mine.ballot;
    case Vote::any: return mine.ballot != 0;
    case Vote::all: return mine.ballot == mine.lanes;
  }
  return 0;
}

int64_t reduce(Reduction kind, uint32_t mask, int64_t value, Site site) {
  ReduceOperand mine = {value, 0, kind};
  running_block("__reduce_sync").meet(mask, kReductions[static_cast<int>(kind)], &mine, site);
  return mine.result;
}

// Any set of lanes with the caller in it is right; the smallest finds code that expects more.
uint32_t active_mask() { return 1u << running_block("__activemask").self().lane; }

void memory_fence(bool block_only) {
  Block& block = running_block("__threadfence");
  if (!block_only) block.fenced = true;
}

}  // namespace simt
