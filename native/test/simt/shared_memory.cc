#include "simt/shared_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <new>

namespace simt {

// Ones are a NaN in every floating-point format, and an index that leads far away.
static constexpr int kPoison = 0xFF;

static unsigned char* map(size_t bytes) {
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  return static_cast<unsigned char*>(memory);
}

SharedMemory::SharedMemory() {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  memory_ = map(kCapacity + page);
  mprotect(memory_ + kCapacity, page, PROT_NONE);
  cells_ = reinterpret_cast<Cell*>(map(kCapacity / 4 * sizeof(Cell)));
}

SharedMemory::~SharedMemory() {
  munmap(memory_, kCapacity + static_cast<size_t>(sysconf(_SC_PAGESIZE)));
  munmap(static_cast<void*>(cells_), kCapacity / 4 * sizeof(Cell));
}

void SharedMemory::start(size_t dynamic_bytes, bool shadowed) {
  shadowed_ = shadowed;
  dynamic_bytes_ = dynamic_bytes;
  dynamic_ = memory_ + kCapacity - (dynamic_bytes + 127) / 128 * 128;
  const size_t room = static_cast<size_t>(memory_ + kCapacity - dynamic_);
  std::memset(dynamic_, kPoison, room);
  if (shadowed) std::memset(static_cast<void*>(cell(dynamic_)), 0, room / 4 * sizeof(Cell));
  static_bytes_ = 0;
  variable_count_ = 0;
}

void* SharedMemory::variable(const void* key, size_t bytes, size_t alignment, size_t limit) {
  for (int i = 0; i < variable_count_; ++i) {
    if (variables_[i].key == key) return variables_[i].address;
  }
  const size_t begin = (static_bytes_ + alignment - 1) / alignment * alignment;
  if (variable_count_ == 64 || begin + bytes + dynamic_bytes_ > limit || begin + bytes > kCapacity / 2) return nullptr;
  unsigned char* address = memory_ + begin;
  std::memset(address, kPoison, bytes);
  if (shadowed_) {
    // Words that two variables share begin anew with the first one.
    const size_t first = (static_bytes_ + 3) / 4, end = (begin + bytes + 3) / 4;
    if (end > first) std::memset(static_cast<void*>(cells_ + first), 0, (end - first) * sizeof(Cell));
  }
  static_bytes_ = begin + bytes;
  variables_[variable_count_++] = {key, address, bytes};
  return address;
}

bool SharedMemory::contains(const void* address, size_t bytes) const {
  const unsigned char* begin = static_cast<const unsigned char*>(address);
  if (begin >= dynamic_)
    return bytes <= dynamic_bytes_ && begin - dynamic_ <= static_cast<ptrdiff_t>(dynamic_bytes_ - bytes);
  for (int i = 0; i < variable_count_; ++i) {
    const Variable& variable = variables_[i];
    if (begin >= variable.address && begin + bytes <= variable.address + variable.bytes) return true;
  }
  return false;
}

size_t SharedMemory::offset(const void* address) const {
  const unsigned char* begin = static_cast<const unsigned char*>(address);
  return static_cast<size_t>(begin >= dynamic_ ? begin - dynamic_ : begin - memory_);
}

}  // namespace simt
