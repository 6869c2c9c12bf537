// What the native tests of attention share: operands in the number types, and comparisons with double precision.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "core/operators.h"
#include "cuda/device.cuh"
#include "cuda/kernel.h"
#include "cuda/rounding_bounds.h"
#include "cuda/testing.h"
#include "operator_runner.h"

namespace attention_test {

using simt::DeviceArray;
using simt::testing::as_doubles;
using simt::testing::expect_ok;
using simt::testing::fail;
using simt::testing::OperatorRunner;
using xlformers::DType;

constexpr uint64_t kSeed = 0x123456789ABCDEFull, kOffset = 0x300000005ull;

// Random cases below this number have shapes that the emulator has done in no time; the others are those of a GPU.
constexpr uint32_t kSmallCases = 500;

template <typename T>
double rounded(double value) {
  return static_cast<double>(static_cast<float>(T(static_cast<float>(value))));
}

template <typename T>
constexpr DType kDType = std::is_same_v<T, float>    ? DType::f32
                         : std::is_same_v<T, __half> ? DType::f16
                                                     : DType::bf16;

template <typename T>
constexpr const char* kTypeName = kDType<T> == DType::f32   ? "f32"
                                  : kDType<T> == DType::f16 ? "f16"
                                                            : "bf16";

template <typename T>
const Rounding kRoundingTo = {xlformers::cuda::testing::kRounding<T>, xlformers::cuda::testing::rounding_of<T>(0)};

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
  return side_by_side<T>({narrowed<T>(rows_of(o.key, s, begin, end)), narrowed<T>(rows_of(o.value, s, begin, end))},
                         s.batch * (end - begin), s.width(), gap);
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

// How much of its bound the largest error of an array was: at most, and the sum over so many arrays.
struct Share {
  double most = 0, sum = 0;
  int count = 0;
};
// By number type and result.
using Shares = std::map<std::string, Share>;

// |got - wanted| <= bounds everywhere.
template <typename T>
void expect_within(const std::vector<double>& got, const std::vector<double>& wanted, const std::vector<double>& bounds,
                   const std::string& what, Shares* shares = nullptr) {
  EXPECT_EQUAL(got.size(), wanted.size());
  EXPECT_EQUAL(bounds.size(), wanted.size());
  double share = 0;
  for (size_t i = 0; i < wanted.size(); ++i) {
    const double error = std::fabs(got[i] - wanted[i]);
    if (!(error <= bounds[i])) {
      std::ostringstream text;
      text << what << '[' << i << "] is " << got[i] << ", expected " << wanted[i] << ": off by " << error << ", at most " << bounds[i];
      fail(simt::Site::here(), text.str());
    }
    if (error > 0) share = std::max(share, error / bounds[i]);
  }
  if (shares != nullptr && share > 0) {
    Share& known = (*shares)[std::string(kTypeName<T>) + ' ' + what];
    known = {std::max(known.most, share), known.sum + share, known.count + 1};
  }
}

// Bounds that errors in 16 bits stay far below would prove little. (log_sum_exp is in fp32.)
inline void expect_near_bounds(const Shares& shares) {
  for (const auto& [name, share] : shares) {
    std::printf("  %s: errors of %.2f of their bounds on average, %.2f at most\n", name.c_str(), share.sum / share.count, share.most);
    if (share.count < 8 || name.compare(0, 3, "f32") == 0 || name.find("log_sum_exp") != std::string::npos) continue;
    EXPECT(share.most > 0.05);
  }
}

// A failure of the body says of which problem.
template <typename Body>
void with_description(const std::string& problem, const Body& body) {
  try {
    body();
  } catch (const std::exception& error) {
    throw std::runtime_error(std::string(error.what()) + " (" + problem + ")");
  }
}

}  // namespace attention_test
