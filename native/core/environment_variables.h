// The environment variables that native code reads, all of them; lib/env.ts documents them and reads the rest. Null where one is not set:
// an empty one has a meaning of its own for some. Functions are static for the reason given in status.h.
#pragma once

#include <cctype>
#include <cstdlib>
#include <string>

namespace xlformers::environment_variables {

constexpr const char* kNumThreads = "XLFORMERS_NUM_THREADS";
constexpr const char* kCpuIsa = "XLFORMERS_CPU_ISA";
constexpr const char* kCublasLt = "XLFORMERS_CUBLASLT";
constexpr const char* kCudaHome = "CUDA_HOME";

static inline const char* value(const char* name) { return std::getenv(name); }

// XLFORMERS_<BACKEND>_PLUGIN
static inline const char* plugin_path(const std::string& backend) {
  std::string name = "XLFORMERS_" + backend + "_PLUGIN";
  for (char& letter : name) letter = static_cast<char>(std::toupper(static_cast<unsigned char>(letter)));
  return value(name.c_str());
}

}  // namespace xlformers::environment_variables
