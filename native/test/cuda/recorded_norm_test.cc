// Which layer norms a stream lets products make: while it records, those that a product reads next.
#include <memory>
#include <utility>
#include <vector>

#include "cuda/cuda_stream.h"
#include "normed_product.h"
#include "simt/launch.h"

using namespace xlformers;
using namespace xlformers::cuda;
using namespace xlformers::cuda::testing;

namespace {

// Blocks that a recording of these operators runs, whose result must be that of the operators one by one.
uint64_t recorded_blocks(NormedProduct<float>* pair, const std::vector<std::pair<Operator, const void*>>& operators) {
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

TEST(recordings_let_products_make_layer_norms) {
  NormedProduct<float> pair({3, 24, 20});
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
  NormedProduct<float> pair({3, 24, 24});
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
