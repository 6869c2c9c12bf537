#include "simt/clocks.h"

namespace simt {

static void merge(uint32_t* into, const uint32_t* from, size_t count) {
  for (size_t i = 0; i < count; ++i) into[i] = into[i] > from[i] ? into[i] : from[i];
}

void Clocks::start(int threads) {
  threads_ = static_cast<size_t>(threads);
  epoch_ = 1;
  now_.assign(threads_, 1);
  everyone_.assign(threads_, 0);
  epoch_of_view_.assign(threads_, 0);
  merged_.resize(threads_);
  if (views_.size() < threads_ * threads_) views_.resize(threads_ * threads_);
}

void Clocks::synchronize_all() {
  for (size_t i = 0; i < threads_; ++i) everyone_[i] = now_[i]++;
  ++epoch_;
}

void Clocks::synchronize_lanes(int first, uint32_t mask) {
  for (size_t i = 0; i < threads_; ++i) merged_[i] = everyone_[i];
  for (uint32_t rest = mask; rest != 0; rest &= rest - 1) {
    const int thread = first + __builtin_ctz(rest);
    if (epoch_of_view_[thread] == epoch_) merge(merged_.data(), view(thread), threads_);
  }
  for (uint32_t rest = mask; rest != 0; rest &= rest - 1) {
    const int thread = first + __builtin_ctz(rest);
    merged_[thread] = now_[thread]++;
  }
  for (uint32_t rest = mask; rest != 0; rest &= rest - 1) learn(merged_, first + __builtin_ctz(rest));
}

void Clocks::gather(std::vector<uint32_t>* gathered, int thread) {
  merge(gathered->data(), knowledge(thread), threads_);
  (*gathered)[thread] = now_[thread]++;
}

void Clocks::learn(const std::vector<uint32_t>& gathered, int thread) {
  uint32_t* mine = view(thread);
  if (epoch_of_view_[thread] != epoch_) {
    for (size_t i = 0; i < threads_; ++i) mine[i] = everyone_[i];
    epoch_of_view_[thread] = epoch_;
  }
  merge(mine, gathered.data(), threads_);
}

}  // namespace simt
