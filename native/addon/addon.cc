// The addon's entry point: one state per environment, and the exports. lib/native.ts is the typed mirror of what is exported here.
#include <napi.h>

#include "addon/environment.h"
#include "addon/exports.h"
#include "core/registry.h"
#include "cpu/cpu_backend.h"

namespace {

Napi::Object initialize(Napi::Env env, Napi::Object exports) {
  xlformers::stay_loaded();
  xlformers::register_backend(xlformers::cpu::cpu_backend());
  xlformers::addon::Environment::attach(env);
  xlformers::addon::export_devices(exports);
  xlformers::addon::export_buffers(exports);
  xlformers::addon::export_transfers(exports);
  xlformers::addon::export_recordings(exports);
  xlformers::addon::export_operators(exports);
  return exports;
}

}  // namespace

NODE_API_MODULE(xlformers, initialize)
