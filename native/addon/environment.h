// The state of the addon in one environment: the main thread, or one worker thread. Nothing that touches JavaScript is ever static.
#pragma once

#include <napi.h>

#include <memory>
#include <unordered_set>

#include "addon/completions.h"
#include "addon/external_memory.h"

namespace xlformers::addon {

class Device;
class Recording;

class Environment {
 public:
  // Creates the state and hands it to the environment, which deletes it when it goes down.
  static void attach(Napi::Env env);
  static Environment& of(Napi::Env env) { return *env.GetInstanceData<Environment>(); }

  explicit Environment(Napi::Env env);
  ~Environment();

  napi_env env() const { return env_; }
  Completions& completions() { return completions_; }
  ExternalMemory& external_memory() { return external_memory_; }
  std::unordered_set<Device*>& devices() { return devices_; }
  // The one that is being made, or null.
  Recording* recording() { return recording_.get(); }
  void set_recording(std::unique_ptr<Recording> recording);
  std::unique_ptr<Recording> take_recording();

 private:
  // Closes all queues while the event loop is still there. What JavaScript still refers to is finalised later.
  void close();

  napi_env env_;
  Completions completions_;
  ExternalMemory external_memory_;
  std::unordered_set<Device*> devices_;
  std::unique_ptr<Recording> recording_;
};

// Throws ERR_RECORDING, saying what to do instead, while a recording is being made.
void refuse_while_recording(Environment& environment, const char* call, const char* advice);

}  // namespace xlformers::addon
