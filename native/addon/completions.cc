#include "addon/completions.h"

#include <utility>

#include "addon/device.h"
#include "addon/errors.h"
#include "addon/handle.h"
#include "addon/staging.h"

namespace xlformers::addon {

struct Completions::Operation {
  Completions* owner;
  napi_deferred deferred;
  std::shared_ptr<Device> device;  // stays open until the fence completes
  std::unique_ptr<Staging> staging;
  Status status;
  Operation* next_done;
};

Completions::Completions(Napi::Env env) : env_(env) {
  const napi_status status =
      napi_create_threadsafe_function(env, nullptr, nullptr, Napi::String::New(env, "xlformers"), 0, 1, nullptr, nullptr, this,
                                      on_event_loop, &event_loop_);
  if (status != napi_ok || napi_unref_threadsafe_function(env, event_loop_) != napi_ok) throw Napi::Error::New(env);
}

Completions::~Completions() { close(); }

Napi::Promise Completions::fence(const std::shared_ptr<Device>& device, std::unique_ptr<Staging> staging) {
  napi_value promise = nullptr;
  auto operation = std::make_unique<Operation>();
  operation->owner = this;
  operation->device = device;
  operation->staging = std::move(staging);
  operation->status = device->allocator().take_error();
  operation->next_done = nullptr;
  if (napi_create_promise(env_, &operation->deferred, &promise) != napi_ok) throw Napi::Error::New(env_);
  Operation* const raw = operation.get();
  outstanding_.insert(raw);
  operation.release();
  const Status status = device->backend().fence(device->stream(), on_fence, raw);
  if (!status.ok()) {  // nothing was enqueued: settle by hand
    raw->status = status;
    settle(env_, raw);
  } else if (outstanding_.size() == 1) {
    napi_ref_threadsafe_function(env_, event_loop_);
  }
  return Napi::Promise(env_, promise);
}

void Completions::on_fence(void* user, const Status* status) {
  auto* const operation = static_cast<Operation*>(user);
  Completions& self = *operation->owner;
  std::lock_guard<std::mutex> lock(self.mutex_);
  if (operation->status.ok()) operation->status = *status;
  const bool was_empty = self.first_done_ == nullptr;
  (was_empty ? self.first_done_ : self.last_done_->next_done) = operation;
  self.last_done_ = operation;
  // One wake-up empties the whole list. The function lives as long as any stream: close() comes after the last of them.
  if (was_empty) napi_call_threadsafe_function(self.event_loop_, nullptr, napi_tsfn_nonblocking);
}

void Completions::on_event_loop(napi_env env, napi_value, void* context, void*) {
  if (env == nullptr) return;  // the environment is going down
  auto& self = *static_cast<Completions*>(context);
  Operation* done = nullptr;
  {
    std::lock_guard<std::mutex> lock(self.mutex_);
    done = std::exchange(self.first_done_, nullptr);
    self.last_done_ = nullptr;
  }
  while (done != nullptr) {
    Operation* const next = done->next_done;
    self.settle(env, done);
    done = next;
  }
}

// Failures of Node-API are ignored here: they mean that the environment is going down and nobody waits for the promise.
void Completions::settle(napi_env env, Operation* operation) {
  const std::unique_ptr<Operation> owned(operation);
  outstanding_.erase(operation);
  if (outstanding_.empty()) napi_unref_threadsafe_function(env, event_loop_);
  if (!owned->status.ok()) {
    if (napi_value error = make_error(env, error_code_of(owned->status.code), owned->status.message)) {
      napi_reject_deferred(env, owned->deferred, error);
    }
    return;
  }
  napi_value result = nullptr;
  if (owned->staging != nullptr) {
    try {
      result = make_handle(env, std::move(owned->staging));
    } catch (const Napi::Error&) {
      return;
    }
  } else {
    napi_get_undefined(env, &result);
  }
  napi_resolve_deferred(env, owned->deferred, result);
}

void Completions::close() {
  if (event_loop_ == nullptr) return;
  first_done_ = last_done_ = nullptr;
  for (Operation* operation : outstanding_) delete operation;
  outstanding_.clear();
  napi_release_threadsafe_function(event_loop_, napi_tsfn_release);
  event_loop_ = nullptr;
}

}  // namespace xlformers::addon
