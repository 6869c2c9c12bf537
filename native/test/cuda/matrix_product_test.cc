// The own kernels of matrix_product, each forced over shapes that it may meet: odd sizes, all transposes, rows that do
// not begin at multiples of 16 or 4 bytes, parts of the inner dimension.
#include "cuda/gemm.h"
#include "product_case.h"

using namespace simt::testing;
using namespace xlformers;
using namespace xlformers::cuda;
using namespace xlformers::cuda::testing;

namespace {

template <typename T>
void run(Size size, Options options, GemmPlan plan) {
  TestContext context;
  ProductCase<T> product(size, options);
  const Status status = multiply_by_plan(context.get(), product.params(), plan);
  if (!status.ok()) throw std::runtime_error(std::string(status.message) + ": " + product.name());
  product.check(options.dropout > 0 && plan.splits == 1);
}

GemmPlan whole(GemmKernel kernel, int64_t inner) { return {kernel, 1, (inner + 31) / 32 * 32}; }

template <typename Body>
void for_all_transposes(const Body& body) {
  for (const bool transpose_a : {false, true}) {
    for (const bool transpose_b : {false, true}) body(transpose_a, transpose_b);
  }
}

// Paddings that make rows begin at multiples of 16 bytes, of 4, and at any element.
template <typename T>
void check_tiles(GemmKernel kernel, Size size, std::initializer_list<int64_t> paddings) {
  for_all_transposes([&](bool transpose_a, bool transpose_b) {
    for (const int64_t padding : paddings) {
      Options options;
      options.transpose_a = transpose_a;
      options.transpose_b = transpose_b;
      options.padding = padding;
      run<T>(size, options, whole(kernel, size.inner));
    }
  });
}

template <typename T>
void check_epilogues(GemmKernel kernel, int32_t splits) {
  for (int kind = 0; kind <= 5; ++kind) {
    for (int choice = 0; choice < 8; ++choice) {
      if (kind > 0 && choice % 3 != kind % 3) continue;  // all with none, a few with each of the others
      Options options;
      options.transpose_b = true;
      options.activation = static_cast<Activation>(kind);
      options.bias = (choice & 1) != 0;
      options.residual = (choice & 2) != 0;
      options.accumulate = (choice & 4) != 0;
      options.pre_activation = choice % 2 == kind % 2;
      options.dropout = choice % 4 == 1 ? 0.5 : 0;
      // 16 columns: four at a time; 13: one by one
      for (const int64_t columns : {16, 13}) {
        const Size size = {5, columns, 64};
        run<T>(size, options, {kernel, splits, splits == 1 ? 64 : 32});
      }
    }
  }
}

MatrixProductParams shape(DType dtype, int64_t rows, int64_t columns, int64_t inner, bool transpose_a,
                          bool transpose_b) {
  MatrixProductParams params{};
  params.dtype = params.c_dtype = dtype;
  params.rows = rows;
  params.columns = columns;
  params.inner = inner;
  params.transpose_a = transpose_a;
  params.transpose_b = transpose_b;
  return params;
}

}  // namespace

TEST(small_tiles_of_bf16_multiply_all_transposes) {
  check_tiles<__nv_bfloat16>(GemmKernel::small_tile, {72, 80, 72}, {0, 2, 1});
  check_tiles<__nv_bfloat16>(GemmKernel::small_tile, {67, 9, 41}, {0, 7});
}
TEST(small_tiles_of_fp16_multiply_all_transposes) {
  check_tiles<__half>(GemmKernel::small_tile, {65, 67, 41}, {0, 1});
  check_tiles<__half>(GemmKernel::small_tile, {8, 16, 136}, {0, 2});
}
TEST(large_tiles_of_bf16_multiply_all_transposes) {
  check_tiles<__nv_bfloat16>(GemmKernel::large_tile, {136, 24, 104}, {0, 1});
}
TEST(large_tiles_of_fp16_multiply_all_transposes) { check_tiles<__half>(GemmKernel::large_tile, {31, 130, 70}, {2}); }

TEST(tiles_of_float_multiply_all_transposes) {
  check_tiles<float>(GemmKernel::small_tile, {67, 68, 41}, {0, 1, 3});
  check_tiles<float>(GemmKernel::large_tile, {132, 20, 44}, {0, 1});
  check_tiles<float>(GemmKernel::large_tile, {9, 131, 17}, {0});
}
TEST(tiles_of_double_multiply_all_transposes) { check_tiles<double>(GemmKernel::small_tile, {66, 13, 21}, {0, 1}); }

TEST(tiles_of_several_bands_are_all_computed) {
  // 9 rows of tiles by 2 columns of them: a band of 8 and a band of 1.
  run<__nv_bfloat16>({64 * 8 + 3, 70, 8}, {}, whole(GemmKernel::small_tile, 8));
}

TEST(few_rows_multiply_in_all_formats) {
  for (const int64_t rows : {1, 2, 3, 5, 8, 9, 16}) {
    for (const int64_t padding : {0, 1, 2}) {
      Options options;
      options.transpose_b = true;
      options.padding = padding;
      const int64_t inner = rows % 2 == 0 ? 328 : 41 + 2 * rows;
      run<__nv_bfloat16>({rows, 11, inner}, options, whole(GemmKernel::few_rows, inner));
      run<__half>({rows, 16, 512 - inner}, options, whole(GemmKernel::few_rows, inner));
      if (rows <= 8) run<float>({rows, 7, inner}, options, whole(GemmKernel::few_rows, inner));
    }
  }
  // More than the 1024 inner elements that a block's first round of loads takes.
  Options options;
  options.transpose_b = true;
  ProductCase<__nv_bfloat16> product({2, 8, 1100}, options);
  TestContext context;
  expect_ok(multiply_by_plan(context.get(), product.params(), whole(GemmKernel::few_rows, 1100)));
  product.check();
}

TEST(few_rows_multiply_across_in_all_formats) {
  for (const int64_t rows : {1, 2, 3, 4}) {
    for (const int64_t padding : {0, 1, 8}) {
      Options options;
      options.padding = padding;
      const int64_t inner = rows % 2 == 0 ? 328 : 41 + 2 * rows;
      run<__nv_bfloat16>({rows, 11, inner}, options, whole(GemmKernel::few_rows, inner));
      run<__half>({rows, 40, 512 - inner}, options, whole(GemmKernel::few_rows, inner));
      run<float>({rows, 12, inner}, options, whole(GemmKernel::few_rows, inner));
    }
  }
  // More than the 1024 lines of the first round of loads.
  run<__nv_bfloat16>({1, 16, 1100}, {}, whole(GemmKernel::few_rows, 1100));
  run<float>({3, 5, 1100}, {}, whole(GemmKernel::few_rows, 1100));
  Options options;
  options.bias = options.residual = options.accumulate = options.pre_activation = true;
  options.activation = Activation::relu;
  run<__half>({2, 21, 72}, options, whole(GemmKernel::few_rows, 72));
  run<float>({4, 21, 72}, options, whole(GemmKernel::few_rows, 72));
}

TEST(epilogues_of_all_kernels) {
  check_epilogues<__nv_bfloat16>(GemmKernel::small_tile, 1);
  check_epilogues<__half>(GemmKernel::small_tile, 2);
  check_epilogues<__nv_bfloat16>(GemmKernel::few_rows, 1);
  check_epilogues<float>(GemmKernel::few_rows, 1);
  check_epilogues<float>(GemmKernel::small_tile, 2);
  check_epilogues<double>(GemmKernel::small_tile, 1);
}

TEST(dropout_keeps_what_the_counters_say_in_rows_of_any_length) {
  for (const int32_t splits : {1, 2}) {
    // Rows that begin with a Philox block, in its middle, anywhere; more columns than a block of threads takes.
    for (const int64_t columns : {8, 4, 12, 13, 1, 264}) {
      for (const int64_t padding : {0, 3, 8}) {
        Options options;
        options.transpose_b = options.bias = options.residual = true;
        options.padding = padding;
        options.activation = Activation::relu;
        options.dropout = 0.75;
        options.accumulate = padding == 3;
        options.pre_activation = padding == 8;
        const GemmPlan plan = {GemmKernel::small_tile, splits, splits == 1 ? 64 : 32};
        run<__nv_bfloat16>({11, columns, 64}, options, plan);
        run<float>({11, columns, 64}, options, plan);
      }
    }
  }
}

TEST(an_empty_inner_dimension_leaves_the_epilogue) {
  Options options;
  options.bias = options.residual = options.pre_activation = true;
  options.activation = Activation::silu;
  for (const bool transpose_b : {false, true}) {
    options.transpose_b = transpose_b;
    for (const int64_t rows : {3, 20}) {
      TestContext context;
      ProductCase<__half> product({rows, 9, 0}, options);
      const MatrixProductParams block = product.params();
      expect_ok(matrix_product(context.get(), &block));
      product.check();
    }
  }
}

TEST(parts_of_the_inner_dimension_add_up_in_order) {
  for (const int64_t columns : {40, 37}) {
    run<__nv_bfloat16>({70, columns, 200}, {true, false}, {GemmKernel::small_tile, 4, 64});
    run<float>({70, columns, 200}, {true, false}, {GemmKernel::large_tile, 5, 48});
  }
}

TEST(plain_products_of_16_bits_go_to_floats_without_rounding) {
  Options options;
  options.wide = true;
  for (const bool accumulate : {false, true}) {
    options.accumulate = accumulate;
    // Four at a time and one by one: columns and rows of c that are multiples of 16 bytes, or not.
    for (const int64_t columns : {72, 37}) {
      for (const int64_t padding : {0, 4, 3}) {
        options.padding = padding;
        options.transpose_a = true;
        options.transpose_b = false;
        run<__nv_bfloat16>({70, columns, 200}, options, {GemmKernel::small_tile, 4, 64});
        run<__nv_bfloat16>({70, columns, 72}, options, whole(GemmKernel::small_tile, 72));
        run<__half>({130, columns, 41}, options, whole(GemmKernel::large_tile, 41));
        options.transpose_a = false;
        options.transpose_b = true;
        run<__half>({5, columns, 136}, options, whole(GemmKernel::few_rows, 136));
      }
    }
  }
}

TEST(kernels_are_right_under_all_schedules) {
  under_all_schedules([&] {
    TestContext context;
    ProductCase<__nv_bfloat16> product({33, 41, 136}, {true, true, 3}, 7);
    expect_ok(multiply_by_plan(context.get(), product.params(), {GemmKernel::small_tile, 2, 96}));
    product.check();
    ProductCase<__half> decode({9, 24, 300}, {false, true}, 9);
    expect_ok(multiply_by_plan(context.get(), decode.params(), whole(GemmKernel::few_rows, 300)));
    decode.check();
    ProductCase<__nv_bfloat16> across({3, 24, 150}, {false, false, 8}, 10);
    expect_ok(multiply_by_plan(context.get(), across.params(), whole(GemmKernel::few_rows, 150)));
    across.check();
    ProductCase<float> registers({20, 70, 40}, {false, false, 1}, 11);
    expect_ok(multiply_by_plan(context.get(), registers.params(), whole(GemmKernel::large_tile, 40)));
    registers.check();
  });
}

TEST(nan_is_not_hidden_by_relu) {
  Options options;
  options.activation = Activation::relu;
  options.transpose_b = true;
  for (const GemmKernel kernel : {GemmKernel::few_rows, GemmKernel::small_tile}) {
    TestContext context;
    ProductCase<float> product({1, 4, 8}, options);
    MatrixProductParams block = product.params();
    simt::DeviceArray<float> a(std::vector<float>(8, std::numeric_limits<float>::quiet_NaN()));
    block.a = a.data();
    expect_ok(multiply_by_plan(context.get(), block, whole(kernel, 8)));
    for (const float value : product.result()) EXPECT(std::isnan(value));
  }
}

TEST(plans_fill_the_device) {
  // A feed-forward layer over many rows: large tiles, whole.
  GemmPlan plan = plan_gemm(shape(DType::bf16, 8192, 4096, 1024, false, true), 132);
  EXPECT(plan.kernel == GemmKernel::large_tile);
  EXPECT_EQUAL(plan.splits, 1);
  // Its weight's gradient of a narrow layer: few tiles, a long inner dimension.
  plan = plan_gemm(shape(DType::bf16, 512, 512, 16384, true, false), 132);
  EXPECT(plan.splits > 1);
  EXPECT(plan.splits * plan.split_inner >= 16384 && (plan.splits - 1) * plan.split_inner < 16384);
  EXPECT_EQUAL(plan.split_inner % 32, 0);
  // Decoding.
  EXPECT(plan_gemm(shape(DType::bf16, 16, 4096, 1024, false, true), 132).kernel == GemmKernel::few_rows);
  EXPECT(plan_gemm(shape(DType::f32, 8, 4096, 1024, false, true), 132).kernel == GemmKernel::few_rows);
  EXPECT(plan_gemm(shape(DType::f32, 9, 4096, 1024, false, true), 132).kernel != GemmKernel::few_rows);
  EXPECT(plan_gemm(shape(DType::bf16, 4, 4096, 1024, false, false), 132).kernel == GemmKernel::few_rows);
  EXPECT(plan_gemm(shape(DType::bf16, 5, 4096, 1024, false, false), 132).kernel != GemmKernel::few_rows);
  EXPECT(plan_gemm(shape(DType::bf16, 1, 64, 8192, false, false), 132).kernel != GemmKernel::few_rows);
  EXPECT(plan_gemm(shape(DType::f64, 1, 64, 64, false, false), 132).kernel != GemmKernel::few_rows);
  // Every part has work, scratch memory is bounded, and double has no large tiles.
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16}) {
    for (const int64_t rows : {1, 17, 700, 100000}) {
      for (const int64_t columns : {1, 65, 410, 267735}) {
        for (const int64_t inner : {0, 1, 41, 1024, 100000}) {
          for (const int multiprocessors : {4, 46, 132}) {
            plan = plan_gemm(shape(dtype, rows, columns, inner, true, false), multiprocessors);
            EXPECT(plan.splits >= 1 && plan.splits <= 32);
            EXPECT_EQUAL(plan.split_inner % gemm_step(dtype), 0);
            EXPECT(plan.splits * plan.split_inner >= inner);
            if (plan.splits > 1) {
              EXPECT((plan.splits - 1) * plan.split_inner < inner);
              EXPECT(plan.splits * rows * columns * (dtype == DType::f64 ? 8 : 4) <= int64_t{64} << 20);
            }
            if (dtype == DType::f64) EXPECT(plan.kernel == GemmKernel::small_tile);
          }
        }
      }
    }
  }
}

TEST(packed_matrices_are_refused) {
  TestContext context;
  ProductCase<float> product({2, 2, 2}, {});
  MatrixProductParams block = product.params();
  block.packed_b = 1;
  EXPECT(matrix_product(context.get(), &block).code == StatusCode::unsupported);
  const PackMatrixParams pack{};
  EXPECT(pack_matrix(context.get(), &pack).code == StatusCode::unsupported);
}
