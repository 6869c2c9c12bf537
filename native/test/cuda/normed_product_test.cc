// A layer norm that the product after it makes (multiply_normed): to the bit what the two operators give one after the
// other, and when a stream lets them run so.
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "cuda/cuda_stream.h"
#include "cuda/gemm.h"
#include "cuda/testing.h"

using namespace xlformers;
using namespace xlformers::cuda;
using namespace xlformers::cuda::testing;

namespace {

struct Shape {
  int64_t rows, columns, outputs;
  bool residual = true;
  int64_t padding = 0;  // of rows of c
};

// y = norm(x + residual), c = relu(y W^T + bias) + addend.
template <typename T>
struct Pair {
  explicit Pair(const Shape& shape)
      : x(size(shape.rows * shape.columns), 1),
        residual(size(shape.rows * shape.columns), 2),
        weight(size(shape.columns), 3),
        bias(size(shape.columns), 4),
        w(size(shape.outputs * shape.columns), 5),
        w_bias(size(shape.outputs), 6),
        addend(size(shape.rows * (shape.outputs + shape.padding)), 7),
        y(size(shape.rows * shape.columns)),
        c(size(shape.rows * (shape.outputs + shape.padding))) {
    norm.dtype = product.dtype = kDType<T>;
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

template <typename T>
void check(const Shape& shape) {
  Pair<T> apart(shape), together(shape);
  run(layer_norm, apart.norm);
  run(matrix_product, apart.product);
  EXPECT(takes_norm(together.product, together.norm));
  const Kernel both = [](const Context& context, const void* block) {
    const auto& pair = *static_cast<const Pair<T>*>(block);
    return multiply_normed(context, pair.norm, pair.product);
  };
  run(both, together);
  const std::vector<double> expected = apart.results(), got = together.results();
  for (size_t i = 0; i < expected.size(); ++i) expect_near("y, c", i, got[i], expected[i], 0);
}

// Blocks that a recording of these operators runs, whose result must be that of the operators one by one.
uint64_t recorded_blocks(Pair<float>* pair, const std::vector<std::pair<Operator, const void*>>& operators) {
  std::unique_ptr<CudaStream> stream;
  expect_ok(CudaStream::open(0, &stream));
  for (const auto& [op, params] : operators) expect_ok(stream->enqueue(op, params));
  const std::vector<double> expected = pair->results();
  void* graph = nullptr;
  expect_ok(stream->begin_recording());
  for (const auto& [op, params] : operators) expect_ok(stream->enqueue(op, params));
  expect_ok(stream->end_recording(&graph));
  uint64_t blocks = 0;
  for (int replay = 0; replay < 2; ++replay) {
    for (size_t i = 0; i < pair->y.size(); ++i) pair->y[i] = -7;
    for (size_t i = 0; i < pair->c.size(); ++i) pair->c[i] = -7;
    const uint64_t before = simt::counters().blocks;
    expect_ok(stream->replay(graph));
    blocks = simt::counters().blocks - before;
    EXPECT(pair->results() == expected);
  }
  stream->drop(graph);
  return blocks;
}

}  // namespace

TEST(a_product_makes_the_layer_norm_before_it_to_the_bit) {
  // Rows in packs and not; shorter than a warp and than a block's turn, of two turns and more; fewer columns than the
  // products' steps, and more than their first round of loads.
  const Shape shapes[] = {{1, 1, 9},         {2, 7, 3, false},  {3, 33, 8},       {4, 41, 13, true, 3},
                          {1, 64, 16},       {2, 410, 5, true}, {4, 1024, 9},     {3, 1031, 2, false},
                          {1, 2056, 4, true, 1}, {2, 2049, 3},  {1, 3080, 1, true}};
  for (const Shape& shape : shapes) {
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
  Pair<float> pair({2, 16, 16});
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
  EXPECT(!taken([](auto& norm, auto& product) { norm.dtype = product.dtype = DType::f64; }));
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

TEST(recordings_let_products_make_layer_norms) {
  Pair<float> pair({3, 24, 20});
  const std::pair<Operator, const void*> norm = {Operator::layer_norm, &pair.norm},
                                         product = {Operator::matrix_product, &pair.product};
  // Five blocks of four columns; by itself, a layer norm has one for each of three rows.
  EXPECT_EQUAL(recorded_blocks(&pair, {norm, product}), 5u);
  EXPECT_EQUAL(recorded_blocks(&pair, {norm, product, norm}), 8u);
  EXPECT_EQUAL(recorded_blocks(&pair, {norm, norm, product}), 8u);
  EXPECT_EQUAL(recorded_blocks(&pair, {norm, product, product}), 10u);
  FillParams fill{};
  DeviceArray<float> filled(4);
  fill.dtype = DType::f32;
  fill.count = 4;
  fill.out = filled.data();
  EXPECT_EQUAL(recorded_blocks(&pair, {norm, {Operator::fill, &fill}, product}), 9u);
}

TEST(a_layer_norm_whose_input_the_product_overwrites_runs_before_it) {
  Pair<float> pair({3, 24, 24});
  DeviceArray<float> x(pair.x.values());
  std::vector<double> results[2];
  for (const bool reuses : {false, true}) {
    pair.norm.x = x.data();
    pair.product.c = reuses ? x.data() : pair.c.data();
    std::unique_ptr<CudaStream> stream;
    expect_ok(CudaStream::open(0, &stream));
    void* graph = nullptr;
    expect_ok(stream->begin_recording());
    expect_ok(stream->enqueue(Operator::layer_norm, &pair.norm));
    expect_ok(stream->enqueue(Operator::matrix_product, &pair.product));
    expect_ok(stream->end_recording(&graph));
    expect_ok(stream->replay(graph));
    stream->drop(graph);
    for (size_t i = 0; i < x.size(); ++i) results[reuses].push_back(reuses ? x[i] : pair.c[i]);
  }
  EXPECT(results[0] == results[1]);
}
