#include "addon/errors.h"

#include <cmath>
#include <cstdarg>
#include <cstdio>

namespace xlformers::addon {

const char* error_code_name(ErrorCode code) {
  switch (code) {
    case ErrorCode::arg_type: return "ERR_ARG_TYPE";
    case ErrorCode::arg_range: return "ERR_ARG_RANGE";
    case ErrorCode::arg_shape: return "ERR_ARG_SHAPE";
    case ErrorCode::arg_data: return "ERR_ARG_DATA";
    case ErrorCode::arg_handle: return "ERR_ARG_HANDLE";
    case ErrorCode::token_id: return "ERR_TOKEN_ID";
    case ErrorCode::disposed: return "ERR_DISPOSED";
    case ErrorCode::out_of_memory: return "ERR_OUT_OF_MEMORY";
    case ErrorCode::unsupported: return "ERR_UNSUPPORTED";
    case ErrorCode::device: return "ERR_DEVICE";
    case ErrorCode::cancelled: return "ERR_CANCELLED";
    case ErrorCode::recording: return "ERR_RECORDING";
    case ErrorCode::internal: return "ERR_INTERNAL";
  }
  return "ERR_INTERNAL";
}

void fail(ErrorCode code, const char* format, ...) {
  char message[512];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(message, sizeof message, format, arguments);
  va_end(arguments);
  throw AddonError(code, message);
}

ErrorCode error_code_of(StatusCode code) {
  switch (code) {
    case StatusCode::invalid_argument: return ErrorCode::arg_range;
    case StatusCode::out_of_range: return ErrorCode::token_id;
    case StatusCode::out_of_memory: return ErrorCode::out_of_memory;
    case StatusCode::unsupported: return ErrorCode::unsupported;
    case StatusCode::device: return ErrorCode::device;
    case StatusCode::cancelled: return ErrorCode::cancelled;
    case StatusCode::ok:
    case StatusCode::internal: break;
  }
  return ErrorCode::internal;
}

void require_ok(const Status& status, const char* where) {
  if (!status.ok()) fail(error_code_of(status.code), "%s: %s", where, status.message);
}

napi_value make_error(napi_env env, ErrorCode code, const char* message) {
  napi_value code_value = nullptr;
  napi_value text = nullptr;
  napi_value error = nullptr;
  if (napi_create_string_utf8(env, error_code_name(code), NAPI_AUTO_LENGTH, &code_value) != napi_ok ||
      napi_create_string_utf8(env, message, NAPI_AUTO_LENGTH, &text) != napi_ok ||
      napi_create_error(env, code_value, text, &error) != napi_ok) {
    return nullptr;
  }
  return error;
}

std::string describe(napi_env env, napi_value value) {
  napi_valuetype type = napi_undefined;
  if (napi_typeof(env, value, &type) != napi_ok) return "a value";
  switch (type) {
    case napi_undefined: return "undefined";
    case napi_null: return "null";
    case napi_boolean: {
      bool flag = false;
      napi_get_value_bool(env, value, &flag);
      return flag ? "true" : "false";
    }
    case napi_number: {
      double number = 0;
      napi_get_value_double(env, value, &number);
      if (std::isnan(number)) return "NaN";
      if (std::isinf(number)) return number > 0 ? "Infinity" : "-Infinity";
      char text[32];
      std::snprintf(text, sizeof text, "%.17g", number);
      return text;
    }
    case napi_string: {
      char text[40];
      size_t length = 0;
      napi_get_value_string_utf8(env, value, text, sizeof text, &length);
      return "'" + std::string(text, length) + (length + 1 == sizeof text ? "…'" : "'");
    }
    case napi_bigint: return "a bigint";
    case napi_symbol: return "a symbol";
    case napi_function: return "a function";
    case napi_object: return "an object";
    case napi_external: return "an external value";
  }
  return "a value";
}

}  // namespace xlformers::addon
