// Functions as JavaScript calls them: every C++ exception becomes a JavaScript one, with a code.
#pragma once

#include <napi.h>

#include "addon/environment.h"

namespace xlformers::addon {

using Body = Napi::Value (*)(Environment& environment, const Napi::CallbackInfo& info);

Napi::Value run_guarded(Body body, const Napi::CallbackInfo& info);

template <Body body>
Napi::Value guarded(const Napi::CallbackInfo& info) {
  return run_guarded(body, info);
}

template <Body body>
void export_function(Napi::Object exports, const char* name, void* data = nullptr) {
  exports.Set(name, Napi::Function::New<guarded<body>>(exports.Env(), name, data));
}

}  // namespace xlformers::addon
