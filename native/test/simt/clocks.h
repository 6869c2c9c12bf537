// Which thread of a block has synchronised with which: vector clocks (Mattern 1989), kept short for the common case
// that all threads meet at a barrier.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace simt {

class Clocks {
 public:
  void start(int threads);
  // A thread's own time: it begins a new period with every synchronisation.
  uint32_t now(int thread) const { return now_[thread]; }
  // Has `thread` synchronised with all that `other` did until its time `time`?
  bool knows(int thread, int other, uint32_t time) const {
    return time <= (epoch_of_view_[thread] == epoch_ ? view(thread)[other] : everyone_[other]);
  }
  void synchronize_all();
  // The threads first + lane for the lanes in the mask.
  void synchronize_lanes(int first, uint32_t mask);
  // A barrier that not all threads take part in gathers what they know; those that wait then know it.
  void gather(std::vector<uint32_t>* gathered, int thread);
  void learn(const std::vector<uint32_t>& gathered, int thread);

 private:
  uint32_t* view(int thread) { return views_.data() + static_cast<size_t>(thread) * threads_; }
  const uint32_t* view(int thread) const { return views_.data() + static_cast<size_t>(thread) * threads_; }
  const uint32_t* knowledge(int thread) const {
    return epoch_of_view_[thread] == epoch_ ? view(thread) : everyone_.data();
  }

  size_t threads_ = 0;
  uint32_t epoch_ = 0;
  std::vector<uint32_t> now_;
  std::vector<uint32_t> everyone_;       // known to all since the last barrier of the whole block
  std::vector<uint32_t> epoch_of_view_;  // a view of an earlier epoch is void
  std::vector<uint32_t> views_, merged_;
};

}  // namespace simt
