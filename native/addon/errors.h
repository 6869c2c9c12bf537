// Errors on their way from C++ to JavaScript. The addon throws AddonError; guarded() (guard.h) turns it into an Error with a `code`.
#pragma once

#include <node_api.h>

#include <exception>
#include <string>

#include "core/status.h"

namespace xlformers::addon {

// The codes of lib/errors.ts that the addon uses.
enum class ErrorCode {
  arg_type,
  arg_range,
  arg_shape,
  arg_data,
  arg_handle,
  token_id,
  disposed,
  out_of_memory,
  unsupported,
  device,
  cancelled,
  recording,
  internal,
};

const char* error_code_name(ErrorCode code);

class AddonError : public std::exception {
 public:
  AddonError(ErrorCode code, std::string message) : code_(code), message_(std::move(message)) {}

  ErrorCode code() const { return code_; }
  const char* what() const noexcept override { return message_.c_str(); }

 private:
  ErrorCode code_;
  std::string message_;
};

#if defined(__GNUC__)
[[noreturn, gnu::format(printf, 2, 3)]]
#else
[[noreturn]]
#endif
void fail(ErrorCode code, const char* format, ...);

// Throws unless the status is ok; `where` names the call.
void require_ok(const Status& status, const char* where);

ErrorCode error_code_of(StatusCode code);

// An Error of JavaScript with that code, or null when the environment is going down.
napi_value make_error(napi_env env, ErrorCode code, const char* message);

// A JavaScript value in a few words, as `describe` of lib/errors.ts. Runs no code of the value's own.
std::string describe(napi_env env, napi_value value);

}  // namespace xlformers::addon
