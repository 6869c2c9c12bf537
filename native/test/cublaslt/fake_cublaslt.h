// A stand-in for cuBLASLt: a shared library with its entry points, which multiplies on the host, believes nothing, and
// does as it is told by the test that has opened it too.
#pragma once

#include <cstddef>

namespace fake_cublaslt {

struct Control {
  size_t version = 130000;
  bool refuses_algorithms = false;  // the heuristic finds none
  bool fails_to_multiply = false;
  size_t workspace_bytes = 0;  // what algorithms ask for
  int handles = 0, heuristics = 0, products = 0;
  void (*wrote)(void* memory, size_t bytes) = nullptr;
  char complaint[200] = {};  // the first thing that the real library would refuse or misread
};

constexpr const char* kControl = "fake_cublaslt_control";

}  // namespace fake_cublaslt
