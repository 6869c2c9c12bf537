// Calls operators of native/cuda as the backend does, without a stream: what they need besides their block.
#pragma once

#include "cuda/kernel.h"
#include "cuda/numeric.cuh"
#include "simt/testing.h"

namespace simt::testing {

// A small device whatever there is, so that grids are small too; emulated or not as it is.
inline xlformers::cuda::DeviceProperties small_device() {
  xlformers::cuda::DeviceProperties there{};
  xlformers::cuda::runtime::device_properties(0, &there);
  return {80, 4, 99 * 1024, int64_t{1} << 30, there.ordinal, there.emulated};
}

class OperatorRunner {
 public:
  // run(context): the operator's status. What the last operator said about its data is then in error(). Scratch memory
  // is new: nothing that an earlier operator left there is taken for written.
  template <typename Run>
  xlformers::Status run(const Run& operation) {
    error_[0] = {};
    xlformers::cuda::Workspace workspace;
    xlformers::Status status =
        operation(xlformers::cuda::Context{nullptr, workspace, device_, error_.data(), {arrivals_.data(), kCounters}});
    if (status.ok()) status = xlformers::cuda::runtime::synchronize(nullptr);
    for (int64_t i = 0; i < kCounters; ++i) EXPECT_EQUAL(arrivals_[static_cast<size_t>(i)], 0u);
    return status;
  }

  const xlformers::cuda::DataError& error() const { return error_[0]; }

 private:
  static constexpr int64_t kCounters = 5;  // so few that operators have to go round

  const xlformers::cuda::DeviceProperties device_ = small_device();
  DeviceArray<xlformers::cuda::DataError> error_{std::vector<xlformers::cuda::DataError>(1)};
  DeviceArray<uint32_t> arrivals_{std::vector<uint32_t>(kCounters)};
};

template <typename T>
struct Format;
template <>
struct Format<float> {
  static constexpr xlformers::DType kType = xlformers::DType::f32;
  static constexpr double kUnit = 1.0 / (1 << 23);  // distance of numbers beside 1
};
template <>
struct Format<__nv_bfloat16> {
  static constexpr xlformers::DType kType = xlformers::DType::bf16;
  static constexpr double kUnit = 1.0 / (1 << 7);
};
template <>
struct Format<__half> {
  static constexpr xlformers::DType kType = xlformers::DType::f16;
  static constexpr double kUnit = 1.0 / (1 << 10);
};

template <typename T>
std::vector<T> converted(const std::vector<float>& values) {
  std::vector<T> result;
  for (const float value : values) result.push_back(xlformers::cuda::from_float<T>(value));
  return result;
}

template <typename T>
std::vector<double> as_doubles(const std::vector<T>& values) {
  std::vector<double> result;
  for (const T value : values) result.push_back(xlformers::cuda::to_float(value));
  return result;
}

inline void expect_near(const char* what, size_t index, double got, double wanted, double tolerance) {
  if (got == wanted || (std::isnan(got) && std::isnan(wanted)) || std::fabs(got - wanted) <= tolerance) return;
  std::ostringstream message;
  message << what << '[' << index << "] is " << got << ", expected " << wanted << " within " << tolerance;
  fail(Site::here(), message.str());
}

}  // namespace simt::testing
