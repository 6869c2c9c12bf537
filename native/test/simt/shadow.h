// What is known about each word of shared memory and of writable device memory: who touched it last, and whether it was
// ever written. Races are found as in ThreadSanitizer: an access conflicts with an earlier one that it is not ordered
// after.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace simt {

enum class Access : uint8_t { read = 0, write = 1, atomic = 3 };  // bit 0: writes; bit 1: atomically

// Fields are atomic because blocks on different host threads may share words of device memory.
struct Cell {
  static constexpr int kSlots = 4;
  static constexpr uint32_t kClockBits = 22;
  static constexpr uint32_t kClockMask = (1u << kClockBits) - 1;

  std::atomic<uint32_t> owner;          // the block whose accesses the slots hold
  std::atomic<uint32_t> stamp[kSlots];  // thread << 22 | its time
  std::atomic<uint8_t> use[kSlots];     // bytes of the word, and the access << 4; 0: an empty slot
  std::atomic<uint8_t> initialized;     // bytes
  std::atomic<uint8_t> pending;         // bytes that a cp.async will write
  std::atomic<uint8_t> next;            // the slot to give up if none is free
};

struct Conflict {
  enum Kind { none, same_block, other_block } kind = none;
  int thread = 0;
  uint32_t block = 0;
  Access access = Access::read;
};

class Clocks;

// Notes an access by `thread` of the block `owner` to bytes of a word. first_owner: the first block of this launch.
// `ordered_blocks`: the block has synchronised with the others by a fence.
Conflict note_access(Cell* cell, unsigned bytes, Access access, int thread, const Clocks& clocks, uint32_t owner,
                     uint32_t first_owner, bool ordered_blocks);

}  // namespace simt
