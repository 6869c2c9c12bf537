#include "addon/environment.h"

#include <memory>

#include "addon/device.h"

namespace xlformers::addon {

void Environment::attach(Napi::Env env) {
  auto environment = std::make_unique<Environment>(env);
  // Hooks run in reverse order of registration: this one comes before that of the completions' thread-safe function.
  const auto hook = [](void* data) { static_cast<Environment*>(data)->close(); };
  if (napi_add_env_cleanup_hook(env, hook, environment.get()) != napi_ok) throw Napi::Error::New(env);
  env.SetInstanceData(environment.release());
}

void Environment::close() {
  while (!devices_.empty()) (*devices_.begin())->close();
  completions_.close();
}

}  // namespace xlformers::addon
