#include "addon/guard.h"

#include <new>

#include "addon/errors.h"

namespace xlformers::addon {
namespace {

void throw_error(napi_env env, ErrorCode code, const char* message) {
  // Fails only when the environment is going down, as a worker does that was terminated: then nobody is there to catch it.
  if (napi_value error = make_error(env, code, message)) napi_throw(env, error);
}

// Node-API's own failures, and exceptions of getters and proxies that arguments ran. node-addon-api would rethrow them itself, but
// aborts the process when the environment is going down at that moment.
void rethrow(napi_env env, const Napi::Error& error) {
  try {
    napi_throw(env, error.Value());
  } catch (const Napi::Error&) {
  }
}

}  // namespace

Napi::Value run_guarded(Body body, const Napi::CallbackInfo& info) {
  const napi_env env = info.Env();
  try {
    return body(Environment::of(info.Env()), info);
  } catch (const AddonError& error) {
    throw_error(env, error.code(), error.what());
  } catch (const Napi::Error& error) {
    rethrow(env, error);
  } catch (const std::bad_alloc&) {
    throw_error(env, ErrorCode::out_of_memory, "no memory for the call itself");
  } catch (const std::exception& error) {
    throw_error(env, ErrorCode::internal, error.what());
  }
  return Napi::Value();
}

}  // namespace xlformers::addon
