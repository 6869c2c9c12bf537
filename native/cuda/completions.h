// Calls functions when the stream has got to where they were pushed: one thread per stream, in order. Unlike a host function of the
// driver's it also calls them when the device has failed, so that nobody waits for ever.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#include "core/status.h"

namespace xlformers::cuda {

class StreamCompletions {
 public:
  // Gets the device's error, if any.
  using Function = void (*)(void* user, const Status& status);

  StreamCompletions(int32_t device, void* stream);
  // Calls what is left first.
  ~StreamCompletions();
  StreamCompletions(const StreamCompletions&) = delete;
  StreamCompletions& operator=(const StreamCompletions&) = delete;

  // By the enqueuing thread only. When it fails, the function is not called.
  Status push(Function function, void* user);

 private:
  struct Entry {
    void* event;
    Function function;
    void* user;
  };

  Status take_event(void** event);
  void serve();

  int32_t device_;
  void* stream_;
  std::mutex mutex_;
  std::condition_variable ready_;
  std::deque<Entry> entries_;
  std::vector<void*> events_;  // to be used again
  bool closing_ = false;
  std::thread thread_;
};

}  // namespace xlformers::cuda
