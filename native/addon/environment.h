// The state of the addon in one environment: the main thread, or one worker thread. Nothing that touches JavaScript is ever static.
#pragma once

#include <napi.h>

#include <unordered_set>

#include "addon/completions.h"
#include "addon/external_memory.h"

namespace xlformers::addon {

class Device;

class Environment {
 public:
  // Creates the state and hands it to the environment, which deletes it when it goes down.
  static void attach(Napi::Env env);
  static Environment& of(Napi::Env env) { return *env.GetInstanceData<Environment>(); }

  explicit Environment(Napi::Env env) : env_(env), completions_(env), external_memory_(env) {}

  napi_env env() const { return env_; }
  Completions& completions() { return completions_; }
  ExternalMemory& external_memory() { return external_memory_; }
  std::unordered_set<Device*>& devices() { return devices_; }

 private:
  // Closes all queues while the event loop is still there. What JavaScript still refers to is finalised later.
  void close();

  napi_env env_;
  Completions completions_;
  ExternalMemory external_memory_;
  std::unordered_set<Device*> devices_;
};

}  // namespace xlformers::addon
