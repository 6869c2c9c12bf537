// What the garbage collector is told of the memory behind buffer handles, so that forgotten buffers are collected before memory runs out.
#pragma once

#include <node_api.h>

#include <cstdint>

namespace xlformers::addon {

// V8 collects when the reported amount has grown by some 64 MiB since the last time. A training step allocates and releases far more
// than that, and reporting it all would cost several full collections a step, to no purpose. So what is reported falls only when the
// collector itself found a forgotten buffer: it grows with new highs of live memory, which is where forgetting shows.
class ExternalMemory {
 public:
  explicit ExternalMemory(napi_env env) : env_(env) {}

  void allocated(int64_t bytes) {
    live_ += bytes;
    if (live_ > reported_) report(live_);
  }

  void released(int64_t bytes) { live_ -= bytes; }

  void collected(int64_t bytes) {
    live_ -= bytes;
    report(reported_ - bytes > live_ ? reported_ - bytes : live_);
  }

  // The memory of what was released went back to the system.
  void trimmed() { report(live_); }

 private:
  void report(int64_t amount) {
    int64_t ignored = 0;
    napi_adjust_external_memory(env_, amount - reported_, &ignored);
    reported_ = amount;
  }

  napi_env env_;
  int64_t live_ = 0;
  int64_t reported_ = 0;
};

}  // namespace xlformers::addon
