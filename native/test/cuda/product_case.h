// A matrix product for tests: operands on the "device", and what must come out, in double.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "core/operators.h"
#include "core/philox.h"
#include "cuda/kernel.h"
#include "cuda/numeric.cuh"
#include "simt/testing.h"

namespace xlformers::cuda::testing {

template <typename T>
struct Format;
template <>
struct Format<double> {
  static constexpr DType dtype = DType::f64;
  static constexpr double epsilon = 0x1p-53, compute_epsilon = 0x1p-53;  // half a unit in the last place, relative
};
template <>
struct Format<float> {
  static constexpr DType dtype = DType::f32;
  static constexpr double epsilon = 0x1p-24, compute_epsilon = 0x1p-24;
};
template <>
struct Format<__nv_bfloat16> {
  static constexpr DType dtype = DType::bf16;
  static constexpr double epsilon = 0x1p-8, compute_epsilon = 0x1p-24;
};
template <>
struct Format<__half> {
  static constexpr DType dtype = DType::f16;
  static constexpr double epsilon = 0x1p-11, compute_epsilon = 0x1p-24;
};

inline double activated(Activation activation, double x) {
  switch (activation) {
    case Activation::none: return x;
    case Activation::relu: return x < 0 ? 0 : x;
    case Activation::gelu: return x * 0.5 * (1 + std::erf(x / std::sqrt(2.0)));
    case Activation::gelu_tanh: return x * 0.5 * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case Activation::silu: return x / (1 + std::exp(-x));
    case Activation::tanh: return std::tanh(x);
  }
  return x;
}

struct Size {
  int64_t rows, columns, inner;
};

// What a product is like, apart from its size. Strides are those of a row plus `padding`.
struct Options {
  bool transpose_a = false, transpose_b = false;
  int64_t padding = 0;
  bool bias = false, residual = false, pre_activation = false, accumulate = false;
  Activation activation = Activation::none;
  double dropout = 0;  // 0, 0.5 or 0.75: kept elements are scaled without rounding
  bool wide = false;   // c is of floats, whatever the operands
};

// Numbers are multiples of 2^-7 in [-1, 1), so that sums of up to 512 products are exact in float, in any order:
// without an activation the result is right to the last bit.
template <typename T>
class ProductCase {
 public:
  using Array = simt::DeviceArray<T>;

  ProductCase(Size size, Options options, uint32_t seed = 1)
      : size_(size),
        options_(options),
        a_(options.transpose_a ? matrix(size.inner, size.rows, seed) : matrix(size.rows, size.inner, seed)),
        b_(options.transpose_b ? matrix(size.columns, size.inner, seed + 1)
                               : matrix(size.inner, size.columns, seed + 1)),
        bias_(numbers(size.columns, seed + 2)),
        residual_(matrix(size.rows, size.columns, seed + 3)),
        c_before_(matrix(size.rows, size.columns, seed + 4)) {
    a_array_ = read_only(a_);
    b_array_ = read_only(b_);
    bias_array_ = read_only(bias_);
    residual_array_ = read_only(residual_);
    c_array_ = std::make_unique<Array>(narrowed(c_before_));
    wide_array_ = std::make_unique<simt::DeviceArray<float>>(std::vector<float>(c_before_.begin(), c_before_.end()));
    pre_array_ = std::make_unique<Array>(c_before_.size());
  }

  MatrixProductParams params() {
    MatrixProductParams block{};
    block.dtype = block.c_dtype = Format<T>::dtype;
    block.rows = size_.rows;
    block.columns = size_.columns;
    block.inner = size_.inner;
    block.transpose_a = options_.transpose_a;
    block.transpose_b = options_.transpose_b;
    block.accumulate = options_.accumulate;
    block.activation = options_.activation;
    block.dropout = options_.dropout;
    block.seed = 77;
    block.offset = (uint64_t{3} << 32) + 5;
    block.a = a_array_->data();
    block.a_stride = a_stride();
    block.b = b_array_->data();
    block.b_stride = b_stride();
    block.bias = options_.bias ? bias_array_->data() : nullptr;
    block.residual = options_.residual ? residual_array_->data() : nullptr;
    block.residual_stride = c_stride();
    block.pre_activation = options_.pre_activation ? pre_array_->data() : nullptr;
    block.c = c_array_->data();
    block.c_stride = c_stride();
    if (options_.wide) {
      block.c_dtype = DType::f32;
      block.c = wide_array_->data();
    }
    return block;
  }

  // `stored_first`: the library, or an own kernel, stored the sums as T before activation or dropout saw them.
  void check(bool stored_first = false) const {
    simt::testing::expect_ok(runtime::synchronize(nullptr));
    using simt::testing::fail;
    for (int64_t row = 0; row < size_.rows; ++row) {
      for (int64_t column = 0; column < size_.columns; ++column) {
        double sum = options_.bias ? bias_[static_cast<size_t>(column)] : 0;
        for (int64_t k = 0; k < size_.inner; ++k) sum += a(row, k) * b(k, column);
        const auto at = static_cast<size_t>(row * c_stride() + column);
        if (options_.pre_activation)
          compare("pre_activation", row, column, static_cast<double>((*pre_array_)[at]), sum, 0);
        // Functions are right to a few units of what is computed with, relative to 1 and to x; all activations have
        // slopes below 1.13.
        const bool exact = options_.activation == Activation::none || options_.activation == Activation::relu;
        const double function_error = exact ? 0 : 16 * Format<T>::compute_epsilon * (1 + std::fabs(sum));
        const double share = kept(row, column) ? 1 / (1 - options_.dropout) : 0;
        double expected = share * activated(options_.activation, sum);
        double terms = std::fabs(expected);
        if (options_.residual) expected += residual_[at], terms += std::fabs(residual_[at]);
        if (options_.accumulate) expected += c_before_[at], terms += std::fabs(c_before_[at]);
        const double sum_error = exact ? 0 : 3 * Format<T>::compute_epsilon * terms;
        const double stored_error = stored_first ? share * 1.13 * Format<T>::epsilon * std::fabs(sum) : 0;
        if (options_.wide) {
          if (static_cast<double>((*wide_array_)[at]) != expected)
            fail(simt::Site::here(), "c is rounded or wrong: " + name());
          continue;
        }
        compare("c", row, column, static_cast<double>((*c_array_)[at]), expected,
                share * function_error + sum_error + stored_error);
      }
      for (int64_t column = size_.columns; column < c_stride() && row + 1 < size_.rows; ++column) {
        const auto at = static_cast<size_t>(row * c_stride() + column);
        const double after =
            options_.wide ? static_cast<double>((*wide_array_)[at]) : static_cast<double>((*c_array_)[at]);
        if (after != c_before_[at]) fail(simt::Site::here(), "written between the rows of c: " + name());
      }
    }
  }

  std::vector<T> result() const { return c_array_->values(); }

  std::string name() const {
    const auto yes = [](bool value) { return value ? "1" : "0"; };
    return std::to_string(size_.rows) + "x" + std::to_string(size_.columns) + "x" + std::to_string(size_.inner) + " " +
           dtype_name(Format<T>::dtype) + " transposed " + yes(options_.transpose_a) + yes(options_.transpose_b) +
           " padding " + std::to_string(options_.padding) + " bias " + yes(options_.bias) + " residual " +
           yes(options_.residual) + " dropout " + std::to_string(options_.dropout) + " pre " +
           yes(options_.pre_activation) + " accumulate " + yes(options_.accumulate) + " activation " +
           std::to_string(static_cast<int>(options_.activation)) + " wide " + yes(options_.wide);
  }

 private:
  bool kept(int64_t row, int64_t column) const {
    if (options_.dropout == 0) return true;
    const int64_t index = row * size_.columns + column;
    const PhiloxStream stream = {77, (uint64_t{3} << 32) + 5};
    const PhiloxBlock block = stream.block(static_cast<uint32_t>(index >> 3), static_cast<uint32_t>(index >> 35), 0);
    return philox_lane16(block, static_cast<int>(index & 7)) >= dropout_threshold(options_.dropout);
  }
  int64_t a_stride() const { return (options_.transpose_a ? size_.rows : size_.inner) + options_.padding; }
  int64_t b_stride() const { return (options_.transpose_b ? size_.inner : size_.columns) + options_.padding; }
  int64_t c_stride() const { return size_.columns + options_.padding; }
  double a(int64_t row, int64_t k) const {
    return a_[static_cast<size_t>(options_.transpose_a ? k * a_stride() + row : row * a_stride() + k)];
  }
  double b(int64_t k, int64_t column) const {
    return b_[static_cast<size_t>(options_.transpose_b ? column * b_stride() + k : k * b_stride() + column)];
  }

  static std::vector<double> numbers(int64_t count, uint32_t seed) {
    const std::vector<float> drawn = simt::testing::short_numbers(static_cast<size_t>(count), seed);
    return {drawn.begin(), drawn.end()};
  }
  // The last row ends where it ends: reading on would be out of bounds.
  std::vector<double> matrix(int64_t rows, int64_t columns, uint32_t seed) const {
    return numbers(rows == 0 ? 0 : (rows - 1) * (columns + options_.padding) + columns, seed);
  }
  static std::vector<T> narrowed(const std::vector<double>& values) {
    std::vector<T> result;
    for (const double value : values) result.push_back(T(static_cast<Compute<T>>(value)));
    return result;
  }
  static std::unique_ptr<Array> read_only(const std::vector<double>& values) {
    auto array = std::make_unique<Array>(narrowed(values));
    array->read_only();
    return array;
  }

  void compare(const char* what, int64_t row, int64_t column, double got, double expected, double error) const {
    if (error == 0 && got == static_cast<double>(T(static_cast<Compute<T>>(expected)))) return;
    // Rounding to T, of a number that may be off by `error`; the least numbers of fp16 are multiples of 2^-24.
    const double tolerance =
        error + Format<T>::epsilon * (std::fabs(expected) + error) + (sizeof(T) == 2 ? 0x1p-25 : 0);
    if (error != 0 && std::fabs(got - expected) <= tolerance) return;
    simt::testing::fail(simt::Site::here(), std::string(what) + "[" + std::to_string(row) + ", " +
                                                std::to_string(column) + "] is " + std::to_string(got) + ", expected " +
                                                std::to_string(expected) + " +- " + std::to_string(tolerance) + ": " +
                                                name());
  }

  Size size_;
  Options options_;
  std::vector<double> a_, b_, bias_, residual_, c_before_;
  std::unique_ptr<Array> a_array_, b_array_, bias_array_, residual_array_, c_array_, pre_array_;
  std::unique_ptr<simt::DeviceArray<float>> wide_array_;
};

// What an operator gets: no stream, a workspace of its own, the emulator's properties.
class TestContext {
 public:
  TestContext() { runtime::device_properties(0, &device_); }
  Context get() { return Context{nullptr, workspace_, device_, nullptr, {}}; }
  // As the stream does after every operator.
  void reset() { workspace_.reset(); }

 private:
  Workspace workspace_;
  DeviceProperties device_{};
};

}  // namespace xlformers::cuda::testing
