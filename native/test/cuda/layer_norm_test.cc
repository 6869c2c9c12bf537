#include "cuda/layer_norm.cuh"

#include <cmath>
#include <string>

#include "simt/testing.h"

using namespace simt::testing;
using namespace xlformers;
using simt::DeviceArray;

namespace {

struct Shape {
  int rows, columns;
  bool residual;
  double dropout;
};

// Groups of eight that begin before the row, rows shorter than a group, than a warp and than a block.
const Shape kShapes[] = {{1, 1, false, 0},    {3, 7, true, 0.5},   {2, 33, true, 0},
                         {5, 41, false, 0.1}, {4, 410, true, 0.1}, {2, 1031, true, 0.25}};

template <typename T>
std::vector<T> converted(const std::vector<float>& values) {
  std::vector<T> result;
  for (const float value : values) result.push_back(cuda::from_float<T>(value));
  return result;
}

// `unit`: the rounding error of T relative to a value.
template <typename T>
void check(const Shape& shape, double unit) {
  const size_t columns = static_cast<size_t>(shape.columns), count = static_cast<size_t>(shape.rows) * columns;
  // An offset that is large beside the deviations: the plain sum of squares would lose them.
  std::vector<float> values = short_numbers(count, 1);
  for (float& value : values) value += 1.5f;
  const std::vector<T> x = converted<T>(values), residual = converted<T>(short_numbers(count, 2));
  const std::vector<T> weight = converted<T>(short_numbers(columns, 3)), bias = converted<T>(short_numbers(columns, 4));
  DeviceArray<T> device_x(x), device_residual(residual), device_weight(weight), device_bias(bias);
  for (auto* input : {&device_x, &device_residual, &device_weight, &device_bias}) input->read_only();

  under_all_schedules([&] {
    DeviceArray<T> sum(count), y(count);
    DeviceArray<float> mean(static_cast<size_t>(shape.rows)), rstd(static_cast<size_t>(shape.rows));
    LayerNormParams params = {};
    params.rows = shape.rows;
    params.columns = shape.columns;
    params.epsilon = 1e-5;
    params.dropout = shape.dropout;
    params.seed = 1234567890123ull;
    params.offset = 77;
    params.x = device_x.data();
    params.residual = shape.residual ? device_residual.data() : nullptr;
    params.weight = device_weight.data();
    params.bias = device_bias.data();
    params.sum = sum.data();
    params.mean = mean.data();
    params.rstd = rstd.data();
    params.y = y.data();
    expect_ok(cuda::run_layer_norm<T>(params, nullptr));

    const PhiloxStream stream = {params.seed, params.offset};
    for (size_t row = 0; row < static_cast<size_t>(shape.rows); ++row) {
      std::vector<double> s(columns);
      double center = 0, variance = 0;
      for (size_t i = 0; i < columns; ++i) {
        const size_t index = row * columns + i;
        const uint32_t lane =
            philox_lane16(stream.block(static_cast<uint32_t>(index >> 3), 0, 0), static_cast<int>(index & 7));
        const bool kept = lane >= dropout_threshold(shape.dropout);
        s[i] = kept ? cuda::to_float(x[index]) / (1 - shape.dropout) : 0;
        if (shape.residual) s[i] += cuda::to_float(residual[index]);
        center += s[i] / shape.columns;
      }
      for (const double value : s) variance += (value - center) * (value - center) / shape.columns;
      const double scale = 1 / std::sqrt(variance + params.epsilon);
      // fp32 sums of columns / 128 values a thread and 11 of a tree, each off by 2^-24 of |s| <= 4.
      const double sum_error = (columns / 128.0 + 16) * std::ldexp(4.0, -24);
      const auto near = [&](const char* what, size_t i, double got, double wanted, double tolerance) {
        if (std::fabs(got - wanted) <= tolerance) return;
        fail(simt::Site::here(), std::string(what) + " of row " + std::to_string(row) + ", column " +
                                     std::to_string(i) + ": " + std::to_string(got) + ", expected " +
                                     std::to_string(wanted));
      };
      near("mean", 0, mean[row], center, sum_error);
      near("rstd", 0, rstd[row], scale, scale * scale * sum_error + scale * 1e-6);
      for (size_t i = 0; i < columns; ++i) {
        const double normal = (s[i] - center) * scale, w = cuda::to_float(weight[i]), b = cuda::to_float(bias[i]);
        const double normal_error = sum_error * scale * (1 + std::fabs(normal));
        near("sum", i, cuda::to_float(sum[row * columns + i]), s[i], unit * std::fabs(s[i]) + std::ldexp(4.0, -23));
        near("y", i, cuda::to_float(y[row * columns + i]), normal * w + b,
             normal_error * std::fabs(w) + unit * (std::fabs(normal * w) + std::fabs(b)) + 1e-7);
      }
    }
  });
}

}  // namespace

TEST(layer_norm_fp32) {
  for (const Shape& shape : kShapes) check<float>(shape, std::ldexp(1.0, -23));
}
TEST(layer_norm_bf16) {
  for (const Shape& shape : kShapes) check<__nv_bfloat16>(shape, std::ldexp(1.0, -8));
}
TEST(layer_norm_fp16) {
  for (const Shape& shape : kShapes) check<__half>(shape, std::ldexp(1.0, -11));
}
TEST(layer_norm_refuses_rows_beyond_shared_memory) {
  LayerNormParams params = {};
  params.rows = 1;
  params.columns = 30000;
  EXPECT(cuda::run_layer_norm<float>(params, nullptr).code == StatusCode::unsupported);
}
