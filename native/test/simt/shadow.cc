#include "simt/shadow.h"

#include "simt/clocks.h"

namespace simt {

static constexpr auto kRelaxed = std::memory_order_relaxed;

static bool conflicts(unsigned use, unsigned bytes, unsigned access) {
  const unsigned other = use >> 4;
  return (use & bytes) != 0 && ((other | access) & 1u) != 0 && (other & access & 2u) == 0;
}

Conflict note_access(Cell* cell, unsigned bytes, Access access, int thread, const Clocks& clocks, uint32_t owner,
                     uint32_t first_owner, bool ordered_blocks) {
  const unsigned mode = static_cast<unsigned>(access);
  const unsigned use = mode << 4 | bytes;
  const uint32_t time = clocks.now(thread);
  const uint32_t stamp = static_cast<uint32_t>(thread) << Cell::kClockBits | (time & Cell::kClockMask);
  Conflict conflict;

  const uint32_t previous = cell->owner.load(kRelaxed);
  if (previous != owner) {
    for (int slot = 0; slot < Cell::kSlots; ++slot) {
      const unsigned old = cell->use[slot].load(kRelaxed);
      if (previous >= first_owner && !ordered_blocks && conflicts(old, bytes, mode)) {
        conflict.kind = Conflict::other_block;
        conflict.thread = static_cast<int>(cell->stamp[slot].load(kRelaxed) >> Cell::kClockBits);
        conflict.block = previous;
        conflict.access = static_cast<Access>(old >> 4);
      }
      cell->use[slot].store(0, kRelaxed);
    }
    cell->owner.store(owner, kRelaxed);
    cell->stamp[0].store(stamp, kRelaxed);
    cell->use[0].store(static_cast<uint8_t>(use), kRelaxed);
    return conflict;
  }

  int replace = -1, empty = -1;
  for (int slot = 0; slot < Cell::kSlots; ++slot) {
    const unsigned old = cell->use[slot].load(kRelaxed);
    if (old == 0) {
      if (empty < 0) empty = slot;
      continue;
    }
    const uint32_t old_stamp = cell->stamp[slot].load(kRelaxed);
    if (old_stamp == stamp && old == use) return conflict;
    const int other = static_cast<int>(old_stamp >> Cell::kClockBits);
    const bool ordered = other == thread || clocks.knows(thread, other, old_stamp & Cell::kClockMask);
    if (!ordered && conflicts(old, bytes, mode)) {
      conflict.kind = Conflict::same_block;
      conflict.thread = other;
      conflict.access = static_cast<Access>(old >> 4);
      return conflict;
    }
    // What conflicts with the old access and is not ordered after this one conflicts with this one too.
    const bool covers =
        ((old & 0xFu) & ~bytes) == 0 && (mode & 1u) >= (old >> 4 & 1u) && (mode & 2u) <= (old >> 4 & 2u);
    if (ordered && covers) replace = slot;
  }
  int slot = replace >= 0 ? replace : empty;
  if (slot < 0) {
    slot = cell->next.load(kRelaxed) % Cell::kSlots;
    cell->next.store(static_cast<uint8_t>(slot + 1), kRelaxed);
  }
  cell->stamp[slot].store(stamp, kRelaxed);
  cell->use[slot].store(static_cast<uint8_t>(use), kRelaxed);
  return conflict;
}

}  // namespace simt
