#include "core/philox.h"
#include "cuda/testing.h"

using namespace xlformers;
using namespace xlformers::cuda::testing;
using cuda::Compute;
using cuda::widen;

namespace {

struct Shape {
  int rows, columns;
  bool residual;
  double dropout;
};

// Rows in packs and not, in one turn of registers, two, and more; groups of eight that begin before the row; rows
// shorter than a group, than a warp and than a block.
const Shape kShapes[] = {{1, 1, false, 0},       {3, 7, true, 0.5},     {2, 33, true, 0},    {5, 41, false, 0.1},
                         {4, 410, true, 0.1},    {2, 1031, true, 0.25}, {9, 64, true, 0.25}, {2, 1032, true, 0.5},
                         {1, 2056, false, 0.25}, {2, 2049, true, 0}};

const LayerNormParams kCommon = [] {
  LayerNormParams params = {};
  params.epsilon = 1e-5;
  params.seed = 1234567890123ull;
  params.offset = 77;
  return params;
}();

double dropped(const Shape& shape, size_t index, double value) {
  const PhiloxBlock block = PhiloxStream{kCommon.seed, kCommon.offset}.block(static_cast<uint32_t>(index >> 3), 0, 0);
  const bool kept = philox_lane16(block, static_cast<int>(index & 7)) >= dropout_threshold(shape.dropout);
  return kept ? value / (1 - shape.dropout) : 0;
}

// Mean and 1 / sqrt(variance + epsilon) of a row.
void statistics(const std::vector<double>& s, double* mean, double* rstd) {
  const auto columns = static_cast<double>(s.size());
  double variance = 0;
  *mean = 0;
  for (const double value : s) *mean += value / columns;
  for (const double value : s) variance += (value - *mean) * (value - *mean) / columns;
  *rstd = 1 / std::sqrt(variance + kCommon.epsilon);
}

// The error of fp32 sums: columns / 128 values a thread and 11 of a tree, each off by the rounding of `largest`.
template <typename T>
double sum_error(const Shape& shape, double largest) {
  return (shape.columns / 128.0 + 16) * largest * kRounding<Compute<T>>;
}

template <typename T>
void check(const Shape& shape) {
  const auto rows = static_cast<size_t>(shape.rows), columns = static_cast<size_t>(shape.columns),
             count = rows * columns;
  // An offset that is large beside the deviations: the plain sum of squares would lose them.
  std::vector<float> values = short_numbers(count, 1);
  for (float& value : values) value += 1.5f;
  Numbers<T> x(values), residual(count, 2), weight(columns, 3), bias(columns, 4);
  DeviceArray<T> sum(count), y(count);
  DeviceArray<Compute<T>> mean(rows), rstd(rows);
  LayerNormParams params = kCommon;
  params.dtype = kDType<T>;
  params.rows = shape.rows;
  params.columns = shape.columns;
  params.dropout = shape.dropout;
  params.x = x.data();
  params.residual = shape.residual ? residual.data() : nullptr;
  params.weight = weight.data();
  params.bias = bias.data();
  params.sum = sum.data();
  params.mean = mean.data();
  params.rstd = rstd.data();
  params.y = y.data();
  run(cuda::layer_norm, params);

  for (size_t row = 0; row < rows; ++row) {
    std::vector<double> s(columns);
    for (size_t i = 0; i < columns; ++i) {
      const size_t index = row * columns + i;
      s[i] = dropped(shape, index, x[index]) + (shape.residual ? residual[index] : 0);
    }
    double center = 0, scale = 0;
    statistics(s, &center, &scale);
    const double error = sum_error<T>(shape, 6);
    expect_near("mean", row, mean[row], center, error);
    expect_near("rstd", row, rstd[row], scale, scale * scale * error + 16 * scale * kRounding<Compute<T>>);
    for (size_t i = 0; i < columns; ++i) {
      const size_t index = row * columns + i;
      const double normal = (s[i] - center) * scale, wanted = normal * weight[i] + bias[i];
      const double normal_error =
          error * scale * (1 + std::fabs(normal)) + 16 * std::fabs(normal) * kRounding<Compute<T>>;
      expect_near("sum", index, widen(sum[index]), s[i], rounding_of<T>(s[i]) + 12 * kRounding<Compute<T>>);
      expect_near("y", index, widen(y[index]), wanted,
                  normal_error * std::fabs(weight[i]) + rounding_of<T>(wanted) + 2 * kRounding<Compute<T>>);
    }
  }
  // Without what only gradients need.
  DeviceArray<T> alone(count);
  params.sum = params.mean = params.rstd = nullptr;
  params.y = alone.data();
  run(cuda::layer_norm, params);
  for (size_t i = 0; i < count; ++i) expect_near("y alone", i, widen(alone[i]), widen(y[i]), 0);
}

template <typename T>
void check_gradient(const Shape& shape) {
  using C = Compute<T>;
  const auto rows = static_cast<size_t>(shape.rows), columns = static_cast<size_t>(shape.columns),
             count = rows * columns;
  Numbers<T> sum(count, 1), weight(columns, 3), y_gradient(count, 4);
  std::vector<C> means(rows), rstds(rows);
  std::vector<double> weight_wanted(columns), bias_wanted(columns), weight_size(columns), ds(count);
  for (size_t row = 0; row < rows; ++row) {
    std::vector<double> s(columns);
    for (size_t i = 0; i < columns; ++i) s[i] = sum[row * columns + i];
    double mean = 0, rstd = 0;
    statistics(s, &mean, &rstd);
    means[row] = static_cast<C>(mean);
    rstds[row] = static_cast<C>(rstd);
    double g_mean = 0, gn_mean = 0;
    for (size_t i = 0; i < columns; ++i) {
      const double dy = y_gradient[row * columns + i], normal = (s[i] - mean) * rstd, g = dy * weight[i];
      g_mean += g / shape.columns;
      gn_mean += g * normal / shape.columns;
      weight_wanted[i] += dy * normal;
      weight_size[i] += std::fabs(dy) * (std::fabs(normal) + rstd);
      bias_wanted[i] += dy;
    }
    for (size_t i = 0; i < columns; ++i) {
      const double normal = (s[i] - mean) * rstd, g = y_gradient[row * columns + i] * weight[i];
      ds[row * columns + i] = rstd * (g - g_mean - normal * gn_mean);
    }
  }
  DeviceArray<C> mean(means), rstd(rstds);
  for (const bool wants_residual : {false, true}) {
    DeviceArray<T> x_gradient(count), residual_gradient(count), weight_gradient(columns), bias_gradient(columns);
    LayerNormGradientParams params = {};
    params.dtype = kDType<T>;
    params.rows = shape.rows;
    params.columns = shape.columns;
    params.dropout = shape.dropout;
    params.seed = kCommon.seed;
    params.offset = kCommon.offset;
    params.sum = sum.data();
    params.mean = mean.data();
    params.rstd = rstd.data();
    params.weight = weight.data();
    params.y_gradient = y_gradient.data();
    params.x_gradient = !wants_residual || shape.residual ? x_gradient.data() : nullptr;
    params.residual_gradient = wants_residual ? residual_gradient.data() : nullptr;
    params.weight_gradient = weight_gradient.data();
    params.bias_gradient = bias_gradient.data();
    run(cuda::layer_norm_gradient, params);
    for (size_t row = 0; row < rows; ++row) {
      for (size_t i = 0; i < columns; ++i) {
        const size_t index = row * columns + i;
        // mean and rstd were rounded, and so are |g| <= 1, its sums and products with |n| <= 2 rstd + 2 ...
        const double n = 2 * static_cast<double>(rstds[row]);
        const double error = static_cast<double>(rstds[row]) * (1 + n) * (1 + n) * sum_error<T>(shape, 1);
        const double wanted = dropped(shape, index, ds[index]);
        if (params.x_gradient != nullptr) {
          expect_near("x gradient", index, widen(x_gradient[index]), wanted,
                      rounding_of<T>(wanted) + error / (1 - shape.dropout));
        }
        if (wants_residual) {
          expect_near("residual gradient", index, widen(residual_gradient[index]), ds[index],
                      rounding_of<T>(ds[index]) + error);
        }
      }
    }
    for (size_t i = 0; i < columns; ++i) {
      expect_near("weight gradient", i, widen(weight_gradient[i]), weight_wanted[i],
                  rounding_of<T>(weight_wanted[i]) + (shape.rows + 8) * weight_size[i] * kRounding<C>);
      expect_near("bias gradient", i, widen(bias_gradient[i]), bias_wanted[i],
                  rounding_of<T>(bias_wanted[i]) + shape.rows * shape.rows * kRounding<C>);
    }
  }
}

}  // namespace

TEST(layer_norm_of_all_types_and_shapes) {
  for (const Shape& shape : kShapes) {
    check<float>(shape);
    check<__nv_bfloat16>(shape);
    check<__half>(shape);
  }
  check<double>(kShapes[4]);
  check<double>(kShapes[6]);
}

TEST(layer_norm_is_right_under_every_schedule) {
  under_all_schedules([] {
    check<__nv_bfloat16>({3, 56, true, 0.25});
    check<__nv_bfloat16>({2, 61, true, 0.25});
  });
}

TEST(gradients_of_layer_norm_of_all_types_and_shapes) {
  for (const Shape& shape : kShapes) {
    if (shape.columns == 1) continue;  // rstd is 1 / sqrt(epsilon): rounding of s decides
    check_gradient<float>(shape);
    check_gradient<__nv_bfloat16>(shape);
    check_gradient<__half>(shape);
  }
  check_gradient<double>(kShapes[4]);
  check_gradient<float>({70, 24, true, 0.1});  // several blocks of rows
}

TEST(gradients_of_layer_norm_are_right_under_every_schedule) {
  under_all_schedules([] {
    check_gradient<__nv_bfloat16>({11, 56, true, 0.25});
    check_gradient<__nv_bfloat16>({11, 61, true, 0.25});
  });
}

TEST(gradients_of_no_rows_are_zero) {
  DeviceArray<float> weight_gradient(5), bias_gradient(5);
  LayerNormGradientParams params = {};
  params.dtype = DType::f32;
  params.columns = 5;
  params.weight_gradient = weight_gradient.data();
  params.bias_gradient = bias_gradient.data();
  run(cuda::layer_norm_gradient, params);
  for (size_t i = 0; i < 5; ++i) {
    EXPECT_EQUAL(weight_gradient[i], 0.0f);
    EXPECT_EQUAL(bias_gradient[i], 0.0f);
  }
}
