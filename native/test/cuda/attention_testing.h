// What the native tests of attention share: operands in the number types, and comparisons with double precision.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <type_traits>
#include <vector>

#include "core/operators.h"
#include "cuda/device.cuh"
#include "cuda/kernel.h"
#include "operator_runner.h"

namespace attention_test {

using simt::DeviceArray;
using simt::testing::OperatorRunner;
using simt::testing::as_doubles;
using simt::testing::expect_ok;
using simt::testing::fail;
using xlformers::DType;

constexpr uint64_t kSeed = 0x123456789ABCDEFull, kOffset = 0x300000005ull;

// Random cases below this number have shapes that the emulator has done in no time; the others are those of a GPU.
constexpr uint32_t kSmallCases = 500;

// What one rounding to T may change, relatively.
template <typename T>
constexpr double kRounding = std::is_same_v<T, float>    ? 0x1p-24
                             : std::is_same_v<T, __half> ? 0x1p-11
                                                         : 0x1p-8 / 2;

template <typename T>
double rounded(double value) {
  return static_cast<double>(static_cast<float>(T(static_cast<float>(value))));
}

template <typename T>
constexpr DType kDType = std::is_same_v<T, float>    ? DType::f32
                         : std::is_same_v<T, __half> ? DType::f16
                                                     : DType::bf16;

template <typename T>
std::vector<T> narrowed(const std::vector<double>& values) {
  std::vector<T> result(values.size());
  for (size_t i = 0; i < values.size(); ++i) result[i] = T(static_cast<float>(values[i]));
  return result;
}

// `parts` arrays [rows, width] side by side, as packed projections leave them, with `gap` elements behind each row.
template <typename T>
std::vector<T> side_by_side(const std::vector<std::vector<T>>& parts, int rows, int width, int gap) {
  const int stride = static_cast<int>(parts.size()) * width + gap;
  std::vector<T> all(static_cast<size_t>(rows) * stride, T(1e4f));
  for (int row = 0; row < rows; ++row) {
    for (size_t part = 0; part < parts.size(); ++part) {
      std::copy_n(parts[part].begin() + static_cast<size_t>(row) * width, width,
                  all.begin() + static_cast<size_t>(row) * stride + part * width);
    }
  }
  return all;
}

// Rows [begin, end) of the keys of each batch row.
template <typename Shape>
std::vector<double> rows_of(const std::vector<double>& values, const Shape& s, int begin, int end) {
  std::vector<double> rows;
  for (int b = 0; b < s.batch; ++b) {
    const auto first = values.begin() + static_cast<size_t>(b) * s.keys() * s.width();
    rows.insert(rows.end(), first + begin * s.width(), first + end * s.width());
  }
  return rows;
}

// The operands' keys and values of those rows side by side.
template <typename T, typename Operands, typename Shape>
std::vector<T> packed_keys(const Operands& o, const Shape& s, int begin, int end, int gap) {
  return side_by_side<T>({narrowed<T>(rows_of(o.key, s, begin, end)), narrowed<T>(rows_of(o.value, s, begin, end))}, s.batch * (end - begin),
                         s.width(), gap);
}

// `length` rows of keys and values of each batch row, packed as above.
template <typename T>
xlformers::AttentionRows attention_rows(DeviceArray<T>& packed, int length, int width, int gap) {
  if (length == 0) return {};
  const int64_t row = 2 * width + gap;
  return {packed.data(), packed.data() + width, length, row, length * row, nullptr};
}

template <typename Kernel, typename... Arguments>
void run(Kernel kernel, const Arguments&... arguments) {
  OperatorRunner runner;
  expect_ok(runner.run([&](const xlformers::cuda::Context& context) { return kernel(context, arguments...); }));
  EXPECT_EQUAL(runner.error().claimed, 0u);
}

// |got - expected| <= tolerance * max(1, largest |expected|) everywhere.
template <typename T>
void expect_close(const T* got, const std::vector<double>& expected, double tolerance, const std::string& what) {
  double size = 1;
  for (const double value : expected) size = std::max(size, std::fabs(value));
  for (size_t i = 0; i < expected.size(); ++i) {
    const double value = static_cast<double>(static_cast<float>(got[i]));
    if (std::fabs(value - expected[i]) <= tolerance * size) continue;
    fail(simt::Site::here(), what + "[" + std::to_string(i) + "] is " + std::to_string(value) + ", expected " +
                                 std::to_string(expected[i]) + ", off by more than " + std::to_string(tolerance * size));
  }
}

inline double largest(const std::vector<double>& values) {
  double size = 0;
  for (const double value : values) size = std::max(size, std::fabs(value));
  return size;
}

// Rows of operands [batch, rows, parts * width + gap].
template <typename T>
std::vector<double> gathered(const DeviceArray<T>& from, int rows, int width, int stride, int part) {
  std::vector<double> values;
  for (int row = 0; row < rows; ++row) {
    for (int c = 0; c < width; ++c) {
      values.push_back(static_cast<double>(static_cast<float>(from[static_cast<size_t>(row) * stride + part * width + c])));
    }
  }
  return values;
}

// |got - expected| <= tolerance * largest |expected| + noise everywhere.
inline void expect_near(const std::vector<double>& got, const std::vector<double>& expected, double tolerance, const std::string& what,
                        double noise = 1e-6) {
  double size = 0;
  for (const double value : expected) size = std::max(size, std::fabs(value));
  for (size_t i = 0; i < expected.size(); ++i) {
    if (std::fabs(got[i] - expected[i]) <= tolerance * size + noise) continue;
    fail(simt::Site::here(), what + "[" + std::to_string(i) + "] is " + std::to_string(got[i]) + ", expected " +
                                 std::to_string(expected[i]) + ", off by more than " + std::to_string(tolerance * size + noise));
  }
}

}  // namespace attention_test
