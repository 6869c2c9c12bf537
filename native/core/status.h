// The outcome of a call. A plain struct, so that it crosses the boundary of a plugin built by another compiler.
#pragma once

#include <cstdarg>
#include <cstdint>
#include <cstdio>

namespace xlformers {

enum class StatusCode : int32_t {
  ok = 0,
  invalid_argument = 1,
  out_of_range = 2,   // data-dependent: a token id beyond its table, found while the operator ran
  out_of_memory = 3,
  unsupported = 4,    // the backend lacks this operator or dtype
  device = 5,         // the device or its driver failed
  cancelled = 6,      // the stream was closed before the operator ran
  internal = 7,
};

struct Status {
  StatusCode code = StatusCode::ok;
  char message[252] = {0};

  bool ok() const { return code == StatusCode::ok; }
};

// The functions here are static, not plain inline: kernel files are compiled for several instruction sets, and the linker would keep
// one copy of a plain inline function for all of them, perhaps the one that only the newest processors can run.

static inline Status ok_status() { return Status{}; }

#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
static inline Status
make_status(StatusCode code, const char* format, ...) {
  Status status;
  status.code = code;
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(status.message, sizeof status.message, format, arguments);
  va_end(arguments);
  return status;
}

}  // namespace xlformers
