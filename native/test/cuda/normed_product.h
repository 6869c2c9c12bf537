// A layer norm of few rows and the product that reads it, for tests.
#pragma once

#include <vector>

#include "core/operators.h"
#include "cuda/testing.h"

namespace xlformers::cuda::testing {

struct NormedShape {
  int64_t rows, columns, outputs;
  bool residual = true;
  int64_t padding = 0;  // of rows of c
};

// y = norm(x + residual), c = relu(y W^T + bias) + addend.
template <typename T>
struct NormedProduct {
  explicit NormedProduct(const NormedShape& shape)
      : x(size(shape.rows * shape.columns), 1),
        residual(size(shape.rows * shape.columns), 2),
        weight(size(shape.columns), 3),
        bias(size(shape.columns), 4),
        w(size(shape.outputs * shape.columns), 5),
        w_bias(size(shape.outputs), 6),
        addend(size(shape.rows * (shape.outputs + shape.padding)), 7),
        y(size(shape.rows * shape.columns)),
        c(size(shape.rows * (shape.outputs + shape.padding))) {
    norm.dtype = product.dtype = product.c_dtype = kDType<T>;
    norm.rows = product.rows = shape.rows;
    norm.columns = product.inner = shape.columns;
    norm.epsilon = 1e-5;
    norm.x = x.data();
    norm.residual = shape.residual ? residual.data() : nullptr;
    norm.weight = weight.data();
    norm.bias = bias.data();
    norm.y = y.data();
    product.columns = shape.outputs;
    product.transpose_b = 1;
    product.activation = Activation::relu;
    product.a = y.data();
    product.a_stride = product.b_stride = shape.columns;
    product.b = w.data();
    product.bias = w_bias.data();
    product.residual = addend.data();
    product.residual_stride = product.c_stride = shape.outputs + shape.padding;
    product.c = c.data();
  }

  static size_t size(int64_t count) { return static_cast<size_t>(count); }

  // Bits of y and c, where they are written.
  std::vector<double> results() const {
    std::vector<double> all;
    for (const T& value : y.values()) all.push_back(widen(value));
    for (int64_t i = 0; i < product.rows * product.c_stride; ++i) {
      if (i % product.c_stride < product.columns) all.push_back(widen(c[size(i)]));
    }
    return all;
  }

  Numbers<T> x, residual, weight, bias, w, w_bias, addend;
  DeviceArray<T> y, c;
  LayerNormParams norm{};
  MatrixProductParams product{};
};

}  // namespace xlformers::cuda::testing
