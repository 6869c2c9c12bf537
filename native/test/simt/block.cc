#include "simt/block.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

namespace simt {

const char* fault_name(FaultKind kind) {
  switch (kind) {
    case FaultKind::none: return "none";
    case FaultKind::launch: return "launch";
    case FaultKind::deadlock: return "deadlock";
    case FaultKind::divergence: return "divergence";
    case FaultKind::race: return "race";
    case FaultKind::async_copy: return "async copy";
    case FaultKind::uninitialized: return "uninitialized";
    case FaultKind::out_of_bounds: return "out of bounds";
    case FaultKind::misaligned: return "misaligned";
    case FaultKind::read_only: return "read only";
  }
  return "unknown";
}

static thread_local Block* current = nullptr;

Block* current_block() { return current; }
void set_current_block(Block* block) { current = block; }

Block& running_block(const char* what) {
  if (current == nullptr) {
    std::fprintf(stderr, "simt: %s outside of a kernel\n", what);
    std::abort();
  }
  return *current;
}

Block::Block(int threads) : stacks_(threads), threads_(new Thread[threads]) {
  for (int number = 0; number < threads; ++number) {
    Thread& thread = threads_[number];
    thread.number = static_cast<uint16_t>(number);
    thread.lane = static_cast<uint8_t>(number % kWarp);
    thread.warp = static_cast<uint8_t>(number / kWarp);
  }
}

Block::~Block() {
  for (int number = 0; number < stacks_.count(); ++number) std::free(threads_[number].copies);
  delete[] threads_;
}

uint32_t Block::draw() {  // xorshift64* (Vigna 2016)
  random_ ^= random_ >> 12;
  random_ ^= random_ << 25;
  random_ ^= random_ >> 27;
  return static_cast<uint32_t>((random_ * 0x2545F4914F6CDD1Dull) >> 32);
}

void Block::prepare(uint32_t linear_index, uint64_t seed) {
  const dim3 grid = launch_->grid.grid, block = launch_->grid.block;
  linear_index_ = linear_index;
  index_ = dim3(linear_index % grid.x, linear_index / grid.x % grid.y, linear_index / grid.x / grid.y);
  random_ = seed * 0x9E3779B97F4A7C15ull + linear_index + 1;
  for (int i = 0; i < 4; ++i) draw();
  fault_ = Fault();
  failed_ = false;
  fenced = false;
  size_ = live_ = static_cast<int>(block.x * block.y * block.z);
  warp_count_ = (size_ + kWarp - 1) / kWarp;
  for (int number = 0; number < size_; ++number) {
    Thread& thread = threads_[number];
    const unsigned n = static_cast<unsigned>(number);
    thread.index = {n % block.x, n / block.x % block.y, n / block.x / block.y};
    thread.waiting = Waiting::nothing;
    thread.collective = nullptr;
    thread.collective_name = "its start";
    thread.site = Site();
    thread.copy_count = thread.groups_committed = 0;
    stacks_.prepare(&thread.fiber, number, fiber_main);
  }
  runnable_warps_ = warp_count_ == kMaxWarps ? kAllLanes : (1u << warp_count_) - 1;
  for (int number = 0; number < warp_count_; ++number) {
    const int lanes = size_ - number * kWarp < kWarp ? size_ - number * kWarp : kWarp;
    Warp& warp = warps_[number];
    warp.live = warp.runnable = lanes == kWarp ? kAllLanes : (1u << lanes) - 1;
    warp.arrived = warp.awaited = 0;
  }
  for (Barrier& barrier : barriers_) {
    barrier.arrived = barrier.expected = barrier.count = 0;
    std::memset(barrier.waiting, 0, sizeof barrier.waiting);
    barrier.knowledge.assign(static_cast<size_t>(size_), 0);
  }
  shuffle_order();
  const bool shadowed = launch_->options.check_memory;
  shared_.start(launch_->grid.shared_bytes, shadowed);
  if (shadowed) clocks_.start(size_);
  region_cache_ = RegionCache();
}

void Block::shuffle_order() {
  for (int place = 0; place < warp_count_; ++place) warp_order_[place] = place;
  lane_turn_ = burst_ = 0;
  if (launch_->options.schedule == Schedule::run_ahead && launch_->options.seed != 0) {
    for (int place = warp_count_ - 1; place > 0; --place) {
      const int other = static_cast<int>(draw() % static_cast<uint32_t>(place + 1));
      const int warp = warp_order_[place];
      warp_order_[place] = warp_order_[other];
      warp_order_[other] = warp;
    }
    lane_turn_ = static_cast<int>(draw() % kWarp);
  }
  for (int place = 0; place < warp_count_; ++place) warp_place_[warp_order_[place]] = place;
}

bool Block::run(const Launch& launch, uint32_t linear_index, uint64_t seed) {
  launch_ = &launch;
  prepare(linear_index, seed);
  Thread& first = threads_[warp_order_[0] * kWarp];
  self_ = &first;
  current = this;
  host_ = Fiber();
  switch_fiber(&host_, &first.fiber);
  current = nullptr;
  ++counters_.blocks;
  return !failed_;
}

void Block::fiber_main() {
  Block& block = *current;
  fiber_started(&block.self_->fiber, &block.host_);
  block.launch_->body(block.launch_->call);
  block.finish_thread();
  std::abort();  // nobody switches to a thread that is done
}

void Block::finish_thread() {
  Thread& thread = *self_;
  Warp& warp = warps_[thread.warp];
  const uint32_t bit = 1u << thread.lane;
  thread.waiting = Waiting::done;
  warp.live &= ~bit;
  warp.runnable &= ~bit;
  if (warp.runnable == 0) runnable_warps_ &= ~(1u << thread.warp);
  --live_;
  // Those that wait only for this thread go on.
  for (uint32_t rest = warp.arrived; rest != 0; rest &= rest - 1) {
    const Thread& waiting = threads_[thread.warp * kWarp + __builtin_ctz(rest)];
    const uint32_t wanted = waiting.mask & warp.live;
    if ((waiting.mask & bit) == 0 || (warp.arrived & wanted) != wanted) continue;
    run_collective(warp, thread.warp, wanted, *waiting.collective);
    break;
  }
  complete_if_due(barriers_[0], 0);
  if (live_ == 0) leave();
  switch_to_next();
}

void Block::make_runnable(int warp, uint32_t lanes) {
  if (lanes == 0) return;
  warps_[warp].runnable |= lanes;
  runnable_warps_ |= 1u << warp;
  for (uint32_t rest = lanes; rest != 0; rest &= rest - 1) {
    threads_[warp * kWarp + __builtin_ctz(rest)].waiting = Waiting::nothing;
  }
}

void Block::run_collective(Warp& warp, int warp_number, uint32_t lanes, const Collective& collective) {
  if (collective.whole_warp && lanes != kAllLanes) {
    const Thread& one = threads_[warp_number * kWarp + __builtin_ctz(lanes)];
    fail(FaultKind::divergence, one, "%s (%s:%d) needs all 32 lanes of the warp, and only those of mask %08x are left",
         collective.name, one.site.name(), one.site.line, lanes);
  }
  ++counters_.collectives;
  collective.run(*this, warp_number * kWarp, lanes, warp.operands);
  warp.arrived &= ~lanes;
  warp.awaited = 0;
  for (uint32_t rest = warp.arrived; rest != 0; rest &= rest - 1) {
    warp.awaited |= threads_[warp_number * kWarp + __builtin_ctz(rest)].mask;
  }
  make_runnable(warp_number, lanes);
}

void Block::meet(uint32_t mask, const Collective& collective, void* operand, Site site) {
  Thread& thread = *self_;
  Warp& warp = warps_[thread.warp];
  const uint32_t bit = 1u << thread.lane;
  thread.collective_name = collective.name;
  thread.site = site;
  if ((mask & bit) == 0) {
    fail(FaultKind::divergence, thread, "%s (%s:%d) with mask %08x, which lacks its own lane %d", collective.name,
         site.name(), site.line, mask, thread.lane);
  }
  // Lanes that came before and are in the mask agree with each other: comparing with one is enough. If there is none,
  // one may still wait for this lane.
  uint32_t before = warp.arrived & mask;
  if (before == 0 && (warp.awaited & bit) != 0) {
    for (uint32_t rest = warp.arrived; rest != 0; rest &= rest - 1) {
      const int lane = __builtin_ctz(rest);
      if ((threads_[thread.warp * kWarp + lane].mask & bit) != 0) before = 1u << lane;
    }
  }
  if (before != 0) {
    const Thread& other = threads_[thread.warp * kWarp + __builtin_ctz(before)];
    if (other.collective != &collective || other.mask != mask || other.site != site) {
      fail(FaultKind::divergence, thread,
           "lane %d is at %s (%s:%d) with mask %08x while lane %d waits for it at %s (%s:%d) with mask %08x",
           thread.lane, collective.name, site.name(), site.line, mask, other.lane, other.collective->name,
           other.site.name(), other.site.line, other.mask);
    }
  }
  thread.collective = &collective;
  thread.mask = mask;
  warp.arrived |= bit;
  warp.awaited |= mask;
  warp.operands[thread.lane] = operand;
  const uint32_t wanted = mask & warp.live;
  if ((warp.arrived & wanted) == wanted) {
    run_collective(warp, thread.warp, wanted, collective);
    return;
  }
  thread.waiting = Waiting::for_warp;
  warp.runnable &= ~bit;
  if (warp.runnable == 0) runnable_warps_ &= ~(1u << thread.warp);
  switch_to_next();
}

static const char* barrier_name(BarrierKind kind) {
  switch (kind) {
    case BarrierKind::plain: return "__syncthreads";
    case BarrierKind::count: return "__syncthreads_count";
    case BarrierKind::conjunction: return "__syncthreads_and";
    case BarrierKind::disjunction: return "__syncthreads_or";
  }
  return "";
}

int Block::wait_at_block_barrier(BarrierKind kind, int predicate, Site site) {
  Thread& thread = *self_;
  Barrier& barrier = barriers_[0];
  thread.collective_name = barrier_name(kind);
  thread.site = site;
  if (barrier.arrived == 0) {
    barrier.kind = kind;
    barrier.first = &thread;
    barrier.count = 0;
  } else if (kind != barrier.kind || site != barrier.first->site) {
    const Thread& first = *barrier.first;
    fail(FaultKind::divergence, thread, "at %s (%s:%d) while thread (%u, %u, %u) waits at %s (%s:%d)",
         barrier_name(kind), site.name(), site.line, first.index.x, first.index.y, first.index.z, first.collective_name,
         first.site.name(), first.site.line);
  }
  barrier.count += predicate != 0;
  ++barrier.arrived;
  barrier.waiting[thread.warp] |= 1u << thread.lane;
  Warp& warp = warps_[thread.warp];
  warp.runnable &= ~(1u << thread.lane);
  if (warp.runnable == 0) runnable_warps_ &= ~(1u << thread.warp);
  thread.waiting = Waiting::for_barrier;
  thread.barrier = 0;
  complete_if_due(barrier, 0);
  if (thread.waiting != Waiting::nothing) switch_to_next();
  return barrier.result;
}

void Block::wait_at_named_barrier(int id, int threads, bool waits, Site site) {
  Thread& thread = *self_;
  thread.collective_name = waits ? "barrier_sync" : "barrier_arrive";
  thread.site = site;
  if (id < 1 || id >= kNamedBarriers || threads <= 0 || threads % kWarp != 0 || threads > size_) {
    fail(FaultKind::divergence, thread,
         "%s(%d, %d) (%s:%d): ids are 1 to 15, and the number of threads a multiple of 32 up to the block's %d",
         thread.collective_name, id, threads, site.name(), site.line, size_);
  }
  Barrier& barrier = barriers_[id];
  if (barrier.arrived == 0) {
    barrier.expected = threads;
  } else if (barrier.expected != threads) {
    fail(FaultKind::divergence, thread, "%s(%d, %d) (%s:%d) while others wait there for %d threads",
         thread.collective_name, id, threads, site.name(), site.line, barrier.expected);
  }
  ++barrier.arrived;
  if (launch_->options.check_memory) clocks_.gather(&barrier.knowledge, thread.number);
  if (waits) {
    barrier.waiting[thread.warp] |= 1u << thread.lane;
    Warp& warp = warps_[thread.warp];
    warp.runnable &= ~(1u << thread.lane);
    if (warp.runnable == 0) runnable_warps_ &= ~(1u << thread.warp);
    thread.waiting = Waiting::for_barrier;
    thread.barrier = id;
  }
  complete_if_due(barrier, id);
  if (waits && thread.waiting != Waiting::nothing) switch_to_next();
}

void Block::complete_if_due(Barrier& barrier, int id) {
  const int expected = id == 0 ? live_ : barrier.expected;
  if (barrier.arrived == 0 || barrier.arrived < expected) return;
  barrier.result = barrier.kind == BarrierKind::conjunction   ? barrier.count == barrier.arrived
                   : barrier.kind == BarrierKind::disjunction ? barrier.count > 0
                                                              : barrier.count;
  if (launch_->options.check_memory && id == 0) clocks_.synchronize_all();
  release(barrier, id);
}

void Block::release(Barrier& barrier, int id) {
  barrier.arrived = 0;
  for (int warp = 0; warp < warp_count_; ++warp) {
    const uint32_t lanes = barrier.waiting[warp];
    barrier.waiting[warp] = 0;
    make_runnable(warp, lanes);
    if (id == 0 || !launch_->options.check_memory) continue;
    for (uint32_t rest = lanes; rest != 0; rest &= rest - 1) {
      clocks_.learn(barrier.knowledge, warp * kWarp + __builtin_ctz(rest));
    }
  }
  if (id != 0) {
    for (uint32_t& time : barrier.knowledge) time = 0;
  }
}

// The runnable lane of a warp that comes next after a lane, around the warp; -1 if there is none.
int Block::next_in_warp(int warp, int after_lane) const {
  const uint32_t runnable = warps_[warp].runnable;
  if (runnable == 0) return -1;
  const uint32_t later = after_lane >= kWarp - 1 ? 0 : runnable & (kAllLanes << (after_lane + 1));
  return warp * kWarp + __builtin_ctz(later != 0 ? later : runnable);
}

int Block::next_thread() {
  if (runnable_warps_ == 0) return -1;
  const int warp = self_->warp, lane = self_->lane;
  switch (launch_->options.schedule) {
    case Schedule::in_order: {
      const uint32_t later_lanes = lane == kWarp - 1 ? 0 : warps_[warp].runnable & (kAllLanes << (lane + 1));
      if (later_lanes != 0) return warp * kWarp + __builtin_ctz(later_lanes);
      const uint32_t later_warps = warp == kMaxWarps - 1 ? 0 : runnable_warps_ & (kAllLanes << (warp + 1));
      return next_in_warp(__builtin_ctz(later_warps != 0 ? later_warps : runnable_warps_), kWarp - 1);
    }
    case Schedule::run_ahead: {
      const int next = next_in_warp(warp, lane);
      if (next >= 0) return next;
      for (int step = 1; step <= warp_count_; ++step) {
        const int other = warp_order_[(warp_place_[warp] + step) % warp_count_];
        if ((runnable_warps_ >> other & 1u) != 0) return next_in_warp(other, (lane_turn_ + kWarp - 1) % kWarp);
      }
      return -1;
    }
    case Schedule::random: break;
  }
  // A warp goes on for a while: were every switch to any warp, none would get far ahead of the others.
  int chosen = warp;
  if (burst_ == 0 || warps_[warp].runnable == 0) {
    burst_ = static_cast<int>(draw() % 1024) + 1;
    chosen = __builtin_ctz(any_bit(runnable_warps_));
  }
  --burst_;
  return chosen * kWarp + __builtin_ctz(any_bit(warps_[chosen].runnable));
}

// One of the bits of a mask that is not zero.
uint32_t Block::any_bit(uint32_t mask) {
  for (uint32_t skip = draw() % static_cast<uint32_t>(__builtin_popcount(mask)); skip > 0; --skip) mask &= mask - 1;
  return mask & (~mask + 1);
}

void Block::switch_to_next() {
  const int next = next_thread();
  if (next < 0) report_deadlock();
  Thread* before = self_;
  if (before == &threads_[next]) return;
  self_ = &threads_[next];
  ++counters_.switches;
  switch_fiber(&before->fiber, &self_->fiber);
}

void Block::leave() {
  switch_fiber(&self_->fiber, &host_);
  std::abort();
}

void Block::fail(FaultKind kind, const Thread& thread, const char* format, ...) {
  current = nullptr;  // what is formatted below may lie in functions that report their accesses
  char text[1024];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  char place[256];
  std::snprintf(place, sizeof place, "block (%u, %u, %u), thread (%u, %u, %u)", index_.x, index_.y, index_.z,
                thread.index.x, thread.index.y, thread.index.z);
  fault_.kind = kind;
  fault_.message = std::string(launch_->grid.kernel) + ": " + place + ": " + fault_name(kind) + ": " + text;
  failed_ = true;
  leave();
}

void Block::report_deadlock() {
  // Threads that wait at the same place, up to eight places.
  struct Group {
    const Thread* first;
    int count;
  } groups[8];
  int group_count = 0;
  for (int number = 0; number < size_; ++number) {
    const Thread& thread = threads_[number];
    if (thread.waiting == Waiting::done) continue;
    int group = 0;
    while (group < group_count && (groups[group].first->site.line != thread.site.line ||
                                   groups[group].first->collective_name != thread.collective_name)) {
      ++group;
    }
    if (group == 8) continue;
    if (group == group_count) groups[group_count++] = {&thread, 0};
    ++groups[group].count;
  }
  char text[900];
  int length = std::snprintf(text, sizeof text, "%d of %d threads have ended", size_ - live_, size_);
  for (int group = 0; group < group_count && length < 700; ++group) {
    const Thread& first = *groups[group].first;
    length +=
        std::snprintf(text + length, sizeof text - static_cast<size_t>(length),
                      "; %d wait at %s (%s:%d), the first is (%u, %u, %u)", groups[group].count, first.collective_name,
                      first.site.name(), first.site.line, first.index.x, first.index.y, first.index.z);
    if (first.waiting == Waiting::for_warp) {
      const uint32_t missing = first.mask & warps_[first.warp].live & ~warps_[first.warp].arrived;
      length +=
          std::snprintf(text + length, sizeof text - static_cast<size_t>(length), " and lacks lanes %08x", missing);
    }
  }
  fail(FaultKind::deadlock, *groups[0].first, "%s", text);
}

}  // namespace simt
