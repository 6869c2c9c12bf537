#include "cuda/completions.h"

#include "cuda/runtime.h"

namespace xlformers::cuda {

StreamCompletions::StreamCompletions(int32_t device, void* stream) : device_(device), stream_(stream), thread_([this] { serve(); }) {}

StreamCompletions::~StreamCompletions() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    closing_ = true;
  }
  ready_.notify_one();
  thread_.join();
  for (void* event : events_) runtime::destroy_event(event);
}

Status StreamCompletions::push(Function function, void* user) {
  void* event = nullptr;
  Status status = take_event(&event);
  if (status.ok()) status = runtime::record_event(event, stream_);
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (status.ok()) {
      entries_.push_back({event, function, user});
    } else if (event != nullptr) {
      events_.push_back(event);
    }
  }
  ready_.notify_one();
  return status;
}

Status StreamCompletions::take_event(void** event) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!events_.empty()) {
      *event = events_.back();
      events_.pop_back();
      return ok_status();
    }
  }
  return runtime::create_event(event);
}

void StreamCompletions::serve() {
  runtime::make_current(device_);
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    ready_.wait(lock, [this] { return closing_ || !entries_.empty(); });
    if (entries_.empty()) return;
    const Entry entry = entries_.front();
    entries_.pop_front();
    lock.unlock();
    const Status status = runtime::wait_for_event(entry.event);
    entry.function(entry.user, status);
    lock.lock();
    events_.push_back(entry.event);
  }
}

}  // namespace xlformers::cuda
