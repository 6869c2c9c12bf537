// Promises that are settled when a device's queue has reached a fence.
#pragma once

#include <napi.h>

#include <memory>
#include <mutex>
#include <unordered_set>

#include "core/status.h"

namespace xlformers::addon {

class Device;
class Staging;

// One per environment, used on its JavaScript thread, except that fences complete on the backends' threads.
class Completions {
 public:
  explicit Completions(Napi::Env env);
  ~Completions();
  Completions(const Completions&) = delete;
  Completions& operator=(const Completions&) = delete;

  // Enqueues a fence. The promise is fulfilled with a handle to `staging` (undefined when there is none), or rejected with the first
  // error since the last fence. Keeps the process alive until then.
  Napi::Promise fence(const std::shared_ptr<Device>& device, std::unique_ptr<Staging> staging);

  // To be called when all streams are closed: forgets what is still outstanding, and lets go of the event loop.
  void close();

 private:
  struct Operation;

  static void on_fence(void* user, const Status* status);
  static void on_event_loop(napi_env env, napi_value function, void* context, void* data);
  void settle(napi_env env, Operation* operation);

  napi_env env_;
  napi_threadsafe_function event_loop_ = nullptr;
  std::unordered_set<Operation*> outstanding_;  // owned

  // A list of what has completed, linked through the operations: nothing is allocated on the backends' threads.
  std::mutex mutex_;
  Operation* first_done_ = nullptr;
  Operation* last_done_ = nullptr;
};

}  // namespace xlformers::addon
