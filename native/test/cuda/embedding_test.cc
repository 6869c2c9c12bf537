#include "cuda/testing.h"

using namespace xlformers;
using namespace xlformers::cuda::testing;
using cuda::Compute;
using cuda::widen;

namespace {

// What shapes of sorting and adding there are: one tile of keys and several, ids of one and of two digits, runs of all
// lengths.
struct Case {
  int64_t count, table_rows, columns, first_id;
  int32_t (*id)(int64_t n);
};

const Case kCases[] = {
    {1, 1, 8, 0, [](int64_t) { return 0; }},
    {100, 7, 5, 3, [](int64_t n) { return static_cast<int32_t>(3 + n * 5 % 7); }},
    {64, 2, 8, 0, [](int64_t n) { return static_cast<int32_t>(n / 32); }},  // runs that fill chunks
    {300, 1000, 16, 0, [](int64_t n) { return n % 3 == 0 ? 999 : static_cast<int32_t>(n * 37 % 1000); }},
    {4500, 300, 1, 0, [](int64_t n) { return n % 5 == 0 ? static_cast<int32_t>(n * n % 300) : 7; }},
};

template <typename T>
void check_gradient(const Case& shape, bool accumulate) {
  std::vector<int32_t> ids;
  for (int64_t n = 0; n < shape.count; ++n) ids.push_back(shape.id(n));
  DeviceArray<int32_t> device_ids(ids);
  device_ids.read_only();
  Numbers<T> gradient(static_cast<size_t>(shape.count * shape.columns), 2);
  const std::vector<float> before = short_numbers(static_cast<size_t>(shape.table_rows * shape.columns), 3);
  std::vector<double> wanted(before.size(), 0.0), magnitude(before.size(), 0.0);
  for (int64_t n = 0; n < shape.count; ++n) {
    for (int64_t c = 0; c < shape.columns; ++c) {
      const auto at = static_cast<size_t>((ids[static_cast<size_t>(n)] - shape.first_id) * shape.columns + c);
      wanted[at] += 0.5 * gradient[static_cast<size_t>(n * shape.columns + c)];
      magnitude[at] += 0.5;
    }
  }
  DeviceArray<T> table(converted<T>(before));
  run(cuda::embedding_gradient,
      EmbeddingGradientParams{kDType<T>, shape.count, shape.table_rows, shape.columns, shape.first_id, 0, accumulate,
                              0.5, device_ids.data(), gradient.data(), table.data()});
  for (size_t i = 0; i < wanted.size(); ++i) {
    const double value = wanted[i] + (accumulate ? before[i] : 0);
    // Multiples of 2^-8 below 2^12 have at most 20 bits: sums in fp32 are exact.
    EXPECT(magnitude[i] < 4096);
    expect_near("table", i, widen(table[i]), value, rounding_of<T>(value));
  }
}

}  // namespace

TEST(embedding_gradients_add_up_by_id) {
  for (const Case& shape : kCases) {
    for (const bool accumulate : {false, true}) check_gradient<__nv_bfloat16>(shape, accumulate);
    check_gradient<__half>(shape, false);
    check_gradient<float>(shape, false);
    check_gradient<double>(shape, true);
  }
}

TEST(embedding_gradients_are_right_under_every_schedule) {
  under_all_schedules([] { check_gradient<__nv_bfloat16>(kCases[3], true); });
}

TEST(embedding_gradients_add_in_the_order_of_positions) {
  // 2^24 + 1 is 2^24 in fp32: the result tells the order.
  const auto sum_of = [](std::vector<float> values) {
    DeviceArray<float> gradient(values), table(1);
    DeviceArray<int32_t> ids(std::vector<int32_t>(values.size(), 0));
    run(cuda::embedding_gradient, EmbeddingGradientParams{DType::f32, static_cast<int64_t>(values.size()), 1, 1, 0, 0,
                                                          0, 1, ids.data(), gradient.data(), table.data()});
    return table[0];
  };
  EXPECT_EQUAL(sum_of({0x1p24f, 1, -0x1p24f, 1}), 1.0f);
  EXPECT_EQUAL(sum_of({1, 0x1p24f, 1, -0x1p24f}), 0.0f);
}

TEST(embeddings_of_short_types_take_rows_and_leave_other_clusters_out) {
  for_all_types([](auto zero) {
    using T = decltype(zero);
    for (const int64_t columns : {1, 16, 33}) {
      Numbers<T> table(static_cast<size_t>(10 * columns), 4);
      const std::vector<int32_t> ids = {5, 14, 9, 4, 15, 9, -7};
      DeviceArray<int32_t> device_ids(ids);
      const std::vector<float> before = short_numbers(ids.size() * static_cast<size_t>(columns), 5);
      for (const bool accumulate : {false, true}) {
        DeviceArray<T> out(converted<T>(before));
        run(cuda::embedding, EmbeddingParams{kDType<T>, 7, 10, columns, 5, 1, accumulate, 1.5, device_ids.data(),
                                             table.data(), out.data()});
        for (size_t i = 0; i < before.size(); ++i) {
          const int64_t row = ids[i / static_cast<size_t>(columns)] - 5, column = static_cast<int64_t>(i) % columns;
          const bool inside = row >= 0 && row < 10;
          const double wanted =
              (accumulate ? before[i] : 0) + (inside ? 1.5 * table[static_cast<size_t>(row * columns + column)] : 0);
          expect_near("out", i, widen(out[i]), wanted, rounding_of<T>(wanted));
        }
      }
    }
  });
}

TEST(ids_outside_the_table_are_reported_and_harmless) {
  DeviceArray<int32_t> ids(std::vector<int32_t>{1, 2, 3, 0});
  Numbers<__half> rows(4 * 8, 6);
  DeviceArray<__half> out(4 * 8), table(3 * 8);
  Operators forward, backward;
  expect_ok(forward.run(cuda::embedding,
                        EmbeddingParams{DType::f16, 4, 3, 8, 0, 0, 0, 1, ids.data(), rows.data(), out.data()}));
  expect_ok(backward.run(cuda::embedding_gradient, EmbeddingGradientParams{DType::f16, 4, 3, 8, 0, 0, 0, 1, ids.data(),
                                                                           rows.data(), table.data()}));
  for (Operators* each : {&forward, &backward}) {
    EXPECT_EQUAL(each->error().claimed, 1u);
    EXPECT(each->error().kind == cuda::DataErrorKind::id);
    EXPECT_EQUAL(each->error().index, int64_t{2});
    EXPECT_EQUAL(each->error().value, int64_t{3});
    EXPECT_EQUAL(each->error().high, int64_t{3});
  }
  EXPECT(forward.error().op == static_cast<int32_t>(Operator::embedding));
  EXPECT(backward.error().op == static_cast<int32_t>(Operator::embedding_gradient));
  for (size_t c = 0; c < 8; ++c) {
    expect_near("out", c, widen(out[2 * 8 + c]), 0, 0);
    expect_near("table", c, widen(table[8 + c]), rows[c], 0);
  }
}

TEST(a_gradient_without_positions_is_zero) {
  DeviceArray<__nv_bfloat16> table(6);
  run(cuda::embedding_gradient,
      EmbeddingGradientParams{DType::bf16, 0, 2, 3, 0, 0, 0, 1, nullptr, nullptr, table.data()});
  for (size_t i = 0; i < 6; ++i) expect_near("table", i, widen(table[i]), 0, 0);
}
