// Atomic operations on shared and device memory; blocks on other threads of the host may be at the same word.
#include <cstring>

#include "simt/checks.h"

namespace simt {

namespace {

template <typename T, typename Word>
T as(Word word) {
  T value;
  std::memcpy(&value, &word, sizeof value);
  return value;
}

template <typename T, typename Word>
Word combined(AtomicKind kind, Word old_word, Word operand_word, Word compare) {
  const T old = as<T>(old_word), operand = as<T>(operand_word);
  T value = operand;
  switch (kind) {
    case AtomicKind::add: value = old + operand; break;
    case AtomicKind::minimum: value = operand < old ? operand : old; break;
    case AtomicKind::maximum: value = operand > old ? operand : old; break;
    case AtomicKind::exchange: break;
    case AtomicKind::compare_and_swap: return old_word == compare ? operand_word : old_word;
    case AtomicKind::bit_and: return old_word & operand_word;
    case AtomicKind::bit_or: return old_word | operand_word;
  }
  return as<Word>(value);
}

template <typename Signed, typename Unsigned, typename Real>
Unsigned change(AtomicKind kind, void* address, Unsigned operand, Unsigned compare, char type) {
  Block& block = running_block("an atomic operation");
  check_access(block, block.self(), address, sizeof(Unsigned), sizeof(Unsigned), Access::atomic, "an atomic operation",
               nullptr);
  Unsigned* word = static_cast<Unsigned*>(address);
  Unsigned old = __atomic_load_n(word, __ATOMIC_RELAXED);
  Unsigned value;
  do {
    value = type == 'f'   ? combined<Real>(kind, old, operand, compare)
            : type == 's' ? combined<Signed>(kind, old, operand, compare)
                          : combined<Unsigned>(kind, old, operand, compare);
  } while (!__atomic_compare_exchange_n(word, &old, value, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED));
  return old;
}

}  // namespace

uint32_t atomic_word(AtomicKind kind, void* address, uint32_t operand, uint32_t compare, char type) {
  return change<int32_t, uint32_t, float>(kind, address, operand, compare, type);
}

uint64_t atomic_double_word(AtomicKind kind, void* address, uint64_t operand, uint64_t compare, char type) {
  return change<int64_t, uint64_t, double>(kind, address, operand, compare, type);
}

}  // namespace simt
