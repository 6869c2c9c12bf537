// A layer norm that the product after it makes (multiply_normed): to the bit what the two operators give one after the
// other, where takes_norm says so.
#include "normed_product.h"

#include <functional>

#include "cuda/gemm.h"

using namespace xlformers;
using namespace xlformers::cuda;
using namespace xlformers::cuda::testing;

namespace {

template <typename T>
void check(const NormedShape& shape) {
  NormedProduct<T> apart(shape), together(shape);
  run(layer_norm, apart.norm);
  run(matrix_product, apart.product);
  EXPECT(takes_norm(together.product, together.norm));
  const Kernel both = [](const Context& context, const void* block) {
    const auto& pair = *static_cast<const NormedProduct<T>*>(block);
    return multiply_normed(context, pair.norm, pair.product);
  };
  run(both, together);
  const std::vector<double> expected = apart.results(), got = together.results();
  for (size_t i = 0; i < expected.size(); ++i) expect_near("y, c", i, got[i], expected[i], 0);
}

}  // namespace

TEST(a_product_makes_the_layer_norm_before_it_to_the_bit) {
  // Rows in packs and not; shorter than a warp and than a block's turn, of two turns and more; fewer columns than the
  // products' steps, and more than their first round of loads.
  const NormedShape shapes[] = {
      {1, 1, 9},         {2, 7, 3, false}, {3, 33, 8},          {4, 41, 13, true, 3},  {1, 64, 16},
      {2, 410, 5, true}, {4, 1024, 9},     {3, 1031, 2, false}, {1, 2056, 4, true, 1}, {2, 2049, 3},
      {1, 3080, 1, true}};
  for (const NormedShape& shape : shapes) {
    check<__nv_bfloat16>(shape);
    check<__half>(shape);
    check<float>(shape);
  }
}

TEST(a_product_makes_the_layer_norm_under_every_schedule) {
  simt::testing::under_all_schedules([] {
    check<__nv_bfloat16>({3, 56, 17});
    check<__half>({2, 61, 9, false});
    check<float>({4, 40, 6});
  });
}

TEST(a_layer_norm_is_left_alone_where_it_would_make_a_difference) {
  NormedProduct<float> pair({2, 16, 16});
  const auto taken = [&](const std::function<void(LayerNormParams&, MatrixProductParams&)>& change) {
    LayerNormParams norm = pair.norm;
    MatrixProductParams product = pair.product;
    change(norm, product);
    return takes_norm(product, norm);
  };
  EXPECT(taken([](auto&, auto&) {}));
  // Other rows than the norm's, or not as rows.
  EXPECT(!taken([&](auto&, auto& product) { product.a = pair.x.data(); }));
  EXPECT(!taken([](auto&, auto& product) { product.a_stride = 8; }));
  EXPECT(!taken([](auto&, auto& product) { product.inner = 8; }));
  EXPECT(!taken([](auto&, auto& product) { product.rows = 1; }));
  EXPECT(!taken([](auto&, auto& product) { product.transpose_a = 1; }));
  EXPECT(!taken([](auto&, auto& product) { product.transpose_b = 0; }));
  EXPECT(!taken([](auto& norm, auto& product) { norm.rows = product.rows = 5; }));
  EXPECT(!taken([](auto& norm, auto& product) { norm.rows = product.rows = 0; }));
  EXPECT(!taken([](auto& norm, auto& product) { norm.columns = product.inner = product.a_stride = 16384; }));
  EXPECT(!taken([](auto& norm, auto& product) { norm.dtype = product.dtype = product.c_dtype = DType::f64; }));
  EXPECT(!taken([](auto& norm, auto& product) { norm.dtype = product.dtype = DType::bf16; }));  // to floats
  // More than an inference needs.
  EXPECT(!taken([](auto& norm, auto&) { norm.dropout = 0.1; }));
  EXPECT(!taken([](auto&, auto& product) { product.dropout = 0.1; }));
  EXPECT(!taken([&](auto& norm, auto&) { norm.sum = pair.c.data(); }));
  EXPECT(!taken([&](auto& norm, auto&) { norm.mean = pair.c.data(); }));
  EXPECT(!taken([&](auto& norm, auto&) { norm.rstd = pair.c.data(); }));
  // Blocks would read what others have written, or not yet: y read by others than as x, memory used again.
  EXPECT(!taken([&](auto&, auto& product) { product.b = pair.y.data(); }));
  EXPECT(!taken([&](auto&, auto& product) { product.bias = pair.y.data() + 31; }));
  EXPECT(!taken([&](auto&, auto& product) { product.residual = pair.y.data(); }));
  EXPECT(!taken([&](auto&, auto& product) { product.c = pair.y.data() - 31; }));
  EXPECT(taken([&](auto&, auto& product) { product.c = pair.y.data() - 32; }));
  EXPECT(!taken([&](auto&, auto& product) { product.c = const_cast<float*>(pair.x.data()); }));
  EXPECT(!taken([&](auto&, auto& product) { product.c = const_cast<float*>(pair.residual.data()); }));
  EXPECT(!taken([&](auto&, auto& product) { product.c = const_cast<float*>(pair.weight.data()); }));
  EXPECT(!taken([&](auto&, auto& product) { product.pre_activation = const_cast<float*>(pair.bias.data()); }));
}
