// Element types known to every backend.
#pragma once

#include <cstddef>
#include <cstdint>

namespace xlformers {

// The numbers are part of the plugin contract (backend.h): append, never renumber.
enum class DType : int32_t {
  f32 = 0,
  f64 = 1,   // tests and gradient checks
  bf16 = 2,  // the CPU backend stores and converts it; CUDA computes with it
  f16 = 3,   // likewise
  i32 = 4,
  u8 = 5,
};

constexpr int32_t kDTypeCount = 6;

constexpr size_t dtype_size(DType dtype) {
  switch (dtype) {
    case DType::f32: return 4;
    case DType::f64: return 8;
    case DType::bf16: return 2;
    case DType::f16: return 2;
    case DType::i32: return 4;
    case DType::u8: return 1;
  }
  return 0;
}

// Of what operators compute over operands of a floating type: norms, log-sum-exps, losses.
constexpr DType statistics_dtype(DType dtype) { return dtype == DType::f64 ? DType::f64 : DType::f32; }

constexpr const char* dtype_name(DType dtype) {
  switch (dtype) {
    case DType::f32: return "f32";
    case DType::f64: return "f64";
    case DType::bf16: return "bf16";
    case DType::f16: return "f16";
    case DType::i32: return "i32";
    case DType::u8: return "u8";
  }
  return "unknown";
}

}  // namespace xlformers
