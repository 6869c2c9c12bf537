#include "addon/environment.h"

#include <memory>
#include <utility>

#include "addon/device.h"
#include "addon/errors.h"
#include "addon/recording.h"

namespace xlformers::addon {

Environment::Environment(Napi::Env env) : env_(env), completions_(env), external_memory_(env) {}

Environment::~Environment() = default;

void Environment::set_recording(std::unique_ptr<Recording> recording) { recording_ = std::move(recording); }

std::unique_ptr<Recording> Environment::take_recording() { return std::move(recording_); }

void refuse_while_recording(Environment& environment, const char* call, const char* advice) {
  if (environment.recording() == nullptr) return;
  fail(ErrorCode::recording, "%s: cannot be recorded, and a recording of %s is being made: %s", call,
       environment.recording()->device()->name().c_str(), advice);
}

void Environment::attach(Napi::Env env) {
  auto environment = std::make_unique<Environment>(env);
  // Hooks run in reverse order of registration: this one comes before that of the completions' thread-safe function.
  const auto hook = [](void* data) { static_cast<Environment*>(data)->close(); };
  if (napi_add_env_cleanup_hook(env, hook, environment.get()) != napi_ok) throw Napi::Error::New(env);
  env.SetInstanceData(environment.release());
}

void Environment::close() {
  recording_.reset();
  while (!devices_.empty()) (*devices_.begin())->close();
  completions_.close();
}

}  // namespace xlformers::addon
