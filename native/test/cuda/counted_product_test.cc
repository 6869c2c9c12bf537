// Products of rows whose number only the device knows.
#include <cmath>
#include <limits>

#include "cuda/gemm.h"
#include "operator_runner.h"

using namespace simt::testing;
using namespace xlformers;
using simt::DeviceArray;

namespace {

constexpr int64_t kBegin = 3;

// Rows of `a` that are not there are NaN, and in c they stay unwritten or hold what the tile made of zeros.
template <typename T>
void check(int64_t rows, int64_t columns, int64_t inner, bool of_inner, bool accumulate, int32_t there) {
  const auto lines = static_cast<size_t>(of_inner ? inner : rows);
  const size_t width = static_cast<size_t>(of_inner ? rows : inner), wide = static_cast<size_t>(columns);
  std::vector<float> a = short_numbers(lines * width, 1);
  for (size_t i = static_cast<size_t>(there) * width; i < a.size(); ++i) a[i] = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> b = short_numbers(static_cast<size_t>(inner) * wide, 2);
  const std::vector<float> before = short_numbers(static_cast<size_t>(rows) * wide, 3);
  DeviceArray<T> device_a(converted<T>(a)), device_b(converted<T>(b)), c(converted<T>(before));
  DeviceArray<int32_t> count(std::vector<int32_t>{there + static_cast<int32_t>(kBegin)});
  MatrixProductParams params = {};
  params.dtype = params.c_dtype = Format<T>::kType;
  params.rows = rows;
  params.columns = columns;
  params.inner = inner;
  params.transpose_a = of_inner;
  params.accumulate = accumulate;
  params.a = device_a.data();
  params.a_stride = static_cast<int64_t>(width);
  params.b = device_b.data();
  params.b_stride = columns;
  params.c = c.data();
  params.c_stride = columns;
  OperatorRunner runner;
  expect_ok(runner.run([&](const cuda::Context& context) {
    return cuda::multiply_rows_there(context, params, {count.data(), kBegin});
  }));
  const size_t made = of_inner ? static_cast<size_t>(rows) : static_cast<size_t>(there);
  const size_t summed = of_inner ? static_cast<size_t>(there) : static_cast<size_t>(inner);
  for (size_t row = 0; row < made; ++row) {
    for (size_t column = 0; column < wide; ++column) {
      double wanted = accumulate ? before[row * wide + column] : 0;
      for (size_t k = 0; k < summed; ++k)
        wanted += double{a[of_inner ? k * width + row : row * width + k]} * b[k * wide + column];
      // Products are exact in fp32; their sum of up to `inner` is rounded, and the result.
      const double error =
          std::ldexp(static_cast<double>(inner * inner), -24) + Format<T>::kUnit / 2 * (std::fabs(wanted) + 1);
      expect_near("c", row * wide + column, cuda::to_float(c[row * wide + column]), wanted, error);
    }
  }
}

template <typename T>
void check_counts(int64_t rows, int64_t columns, int64_t inner, bool of_inner) {
  for (const int32_t there : {0, 1, 5, 65, 70}) {
    check<T>(rows, columns, inner, of_inner, false, there);
    check<T>(rows, columns, inner, of_inner, true, there);
  }
}

}  // namespace

TEST(rows_that_are_there_are_multiplied) {
  check_counts<float>(70, 9, 21, false);
  check_counts<__nv_bfloat16>(70, 9, 21, false);
}
TEST(rows_that_are_there_are_summed_over) {
  check_counts<float>(9, 13, 70, true);
  check_counts<__half>(9, 13, 70, true);
}
TEST(rows_that_are_there_are_multiplied_in_parts) { check_counts<float>(70, 8, 700, false); }
