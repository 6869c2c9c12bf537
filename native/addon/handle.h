// Opaque handles: JavaScript objects that own one C++ object. The type tag, a private property that JavaScript can neither see nor
// copy, tells them from every other object; unwrapping alone would trust any wrapped object, whatever addon made it.
#pragma once

#include <napi.h>

#include <memory>

namespace xlformers::addon {

// T::kTypeTag is the tag of its handles.
template <typename T>
Napi::Object make_handle(Napi::Env env, std::unique_ptr<T> value) {
  Napi::Object object = Napi::Object::New(env);
  object.TypeTag(&T::kTypeTag);
  const auto finalize = [](napi_env, void* data, void*) { delete static_cast<T*>(data); };
  if (napi_wrap(env, object, value.get(), finalize, nullptr, nullptr) != napi_ok) throw Napi::Error::New(env);
  value.release();
  return object;
}

// Null when the value is no handle of a T. Never throws, runs no JavaScript: proxies and inheriting objects do not carry the tag.
template <typename T>
T* unwrap_handle(napi_env env, napi_value value) {
  napi_valuetype type = napi_undefined;
  bool tagged = false;
  void* data = nullptr;
  if (napi_typeof(env, value, &type) != napi_ok || type != napi_object ||
      napi_check_object_type_tag(env, value, &T::kTypeTag, &tagged) != napi_ok || !tagged ||
      napi_unwrap(env, value, &data) != napi_ok) {
    return nullptr;
  }
  return static_cast<T*>(data);
}

}  // namespace xlformers::addon
