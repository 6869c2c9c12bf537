// For tests: operators of the CUDA backend run in the emulator, and what their results are compared by.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "cuda/kernel.h"
#include "cuda/numeric.cuh"
#include "simt/testing.h"

namespace xlformers::cuda::testing {

using simt::DeviceArray;
using simt::testing::expect_ok;
using simt::testing::short_numbers;
using simt::testing::under_all_schedules;

// What a stream gives its operators.
class Operators {
 public:
  Operators() : error_(std::vector<DataError>(1)) { expect_ok(runtime::device_properties(0, &properties_)); }

  template <typename Params>
  Status run(Kernel kernel, const Params& params) {
    Status status =
        kernel(Context{nullptr, workspace_, properties_, error_.data(), {arrivals_.data(), kArrivals}}, &params);
    if (status.ok()) status = runtime::synchronize(nullptr);
    workspace_.reset();
    return status;
  }
  DataError& error() { return error_[0]; }

 private:
  Workspace workspace_;
  DeviceProperties properties_ = {};
  DeviceArray<DataError> error_;
  DeviceArray<uint32_t> arrivals_{std::vector<uint32_t>(kArrivals)};
};

template <typename Params>
void run(Kernel kernel, const Params& params, simt::Site site = simt::Site::here()) {
  Operators operators;
  expect_ok(operators.run(kernel, params), site);
}

template <typename T>
constexpr DType kDType = DType::f32;
template <>
constexpr DType kDType<double> = DType::f64;
template <>
constexpr DType kDType<__nv_bfloat16> = DType::bf16;
template <>
constexpr DType kDType<__half> = DType::f16;

// Largest relative error of rounding to T: of p significant bits (24, 53, 8 and 11, the hidden one included), numbers
// from 2^e to 2^(e+1) stand 2^(e-p+1) apart, so the nearest is no farther than 2^(e-p), which is 2^-p of the smallest
// of them.
template <typename T>
constexpr double kRounding = 0x1p-24;
template <>
constexpr double kRounding<double> = 0x1p-53;
template <>
constexpr double kRounding<__nv_bfloat16> = 0x1p-8;
template <>
constexpr double kRounding<__half> = 0x1p-11;

// Largest error of rounding `value` to T, subnormal numbers of fp16 included.
template <typename T>
double rounding_of(double value) {
  return std::fabs(value) * kRounding<T> + 0x1p-25 * (kDType<T> == DType::f16);
}

template <typename T>
std::vector<T> converted(const std::vector<float>& values) {
  std::vector<T> result;
  for (const float value : values) result.push_back(narrow_double<T>(value));
  return result;
}

// Numbers that are exact in every type, on the device and read-only.
template <typename T>
struct Numbers : DeviceArray<T> {
  Numbers(size_t count, uint32_t seed) : Numbers(short_numbers(count, seed)) {}
  explicit Numbers(const std::vector<float>& values) : DeviceArray<T>(converted<T>(values)) { this->read_only(); }
  double operator[](size_t i) const { return widen(DeviceArray<T>::operator[](i)); }
};

inline void expect_near(const std::string& what, size_t index, double got, double wanted, double tolerance,
                        simt::Site site = simt::Site::here()) {
  if (std::fabs(got - wanted) <= tolerance) return;
  simt::testing::fail(site, what + "[" + std::to_string(index) + "]: " + std::to_string(got) + ", expected " +
                                std::to_string(wanted) + ", off by " + std::to_string(std::fabs(got - wanted)) +
                                " of " + std::to_string(tolerance));
}

// body(T{}) for the storage types.
template <typename Body>
void for_short_types(const Body& body) {
  body(__nv_bfloat16{});
  body(__half{});
}
template <typename Body>
void for_all_types(const Body& body) {
  body(float{});
  body(double{});
  for_short_types(body);
}

}  // namespace xlformers::cuda::testing
