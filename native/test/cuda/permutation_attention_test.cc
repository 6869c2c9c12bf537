// XLNet's attention in bf16, fp16 and fp32 against double precision: both streams, with all that hides keys, in odd shapes.
#include "cuda/permutation_testing.h"

using namespace simt::testing;
using namespace permutation_test;

namespace {

// Head sizes of every instance and some between, lengths around tiles, and everything that hides a key or moves a row.
std::vector<Shape> shapes() {
  std::vector<Shape> all;
  Shape shape = {2, 2, 64, 40, 33};  // plain
  all.push_back(shape);
  shape = {1, 1, 32, 69, 70};  // pretraining: ranks, segments, memory, a query stream that stands anywhere
  shape.queries = 13, shape.positions = shape.ranks = shape.segments = true;
  all.push_back(shape);
  shape = {2, 1, 41, 37, 9};  // both streams at the same places; the second batch row reads r backwards
  shape.queries = 37, shape.ranks = true, shape.reversed_from = 1, shape.dropout = 0.25, shape.head_scale = true;
  all.push_back(shape);
  shape = {2, 1, 16, 31, 20};  // masks of all kinds together
  shape.queries = 40, shape.positions = shape.ranks = shape.padding = shape.starts = true, shape.mask = Mask::by_batch;
  all.push_back(shape);
  shape = {1, 1, 80, 35, 0};
  shape.queries = 5, shape.positions = shape.segments = true, shape.mask = Mask::shared, shape.biases = false;
  all.push_back(shape);
  shape = {2, 1, 128, 20, 9};
  shape.queries = 7, shape.positions = shape.padding = true, shape.reversed_from = 0, shape.dropout = 0.5;
  all.push_back(shape);
  shape = {1, 1, 256, 9, 17};
  shape.queries = 9, shape.segments = shape.ranks = true;
  all.push_back(shape);
  shape = {1, 1, 136, 34, 3};  // causal: r has no row of a negative distance
  shape.upper = 0, shape.near = true, shape.queries = 4;
  all.push_back(shape);
  shape = {1, 2, 48, 70, 48};  // windows; no content stream
  shape.content = 0, shape.queries = 90, shape.positions = true, shape.upper = 1, shape.lower = -5, shape.segment = 16;
  all.push_back(shape);
  shape = {1, 1, 64, 80, 0};  // rows that see nothing, among others at consecutive positions
  shape.queries = 80, shape.ranks = true;
  all.push_back(shape);
  shape = {2, 1, 24, 50, 0};  // and at any
  shape.queries = 70, shape.positions = shape.ranks = shape.segments = true, shape.dropout = 0.25;
  all.push_back(shape);
  shape = {1, 1, 48, 40, 0};  // no row of a tile sees anything
  shape.queries = 1, shape.positions = shape.ranks = true;
  all.push_back(shape);
  shape = {1, 1, 16, 128, 0};  // rows see themselves and what is far behind, and between them nothing
  shape.upper = -70;
  all.push_back(shape);
  shape = {1, 1, 40, 100, 0};  // and with a gap that is not as wide for all
  shape.padding = true, shape.gap_begin = 32, shape.gap_end = 96;
  all.push_back(shape);
  shape = {1, 1, 64, 150, 137};  // dR across windows of keys and parts of the rows, with gaps between rows and a window that nobody sees
  shape.queries = 70, shape.positions = shape.ranks = shape.padding = true, shape.lower = -140, shape.gap_begin = 0, shape.gap_end = 128;
  all.push_back(shape);
  shape = {2, 4, 32, 131, 0};  // and across tiles of one part, as batch rows and heads fill the device; the second batch row backwards
  shape.queries = 131, shape.reversed_from = 1, shape.upper = 90;
  all.push_back(shape);
  shape = {1, 1, 3, 1, 5};
  shape.queries = 1;
  all.push_back(shape);
  return all;
}

// One that has most of it, for schedules.
Shape everything(int head_dim = 24, int length = 40) {
  Shape shape = {2, 1, head_dim, length, 10};
  shape.queries = 11, shape.positions = shape.ranks = shape.segments = true, shape.reversed_from = 1, shape.dropout = 0.25;
  return shape;
}

}  // namespace

TEST(permutation_forward_in_bf16_equals_the_formula) {
  for (const Shape& shape : shapes()) check_forward<__nv_bfloat16>(shape, 8);
}

TEST(permutation_forward_in_fp16_equals_the_formula) {
  for (const Shape& shape : shapes()) check_forward<__half>(shape, 3);
}

TEST(permutation_forward_in_fp32_equals_the_formula) {
  for (const Shape& shape : shapes()) check_forward<float>(shape, 8);
}

TEST(permutation_forward_under_all_schedules) {
  under_all_schedules([&] { check_forward<__nv_bfloat16>(everything(), 8); });
}

TEST(permutation_gradients_in_bf16_equal_the_formula) {
  for (const Shape& shape : shapes()) check_gradient<__nv_bfloat16>(shape, 8);
}

TEST(permutation_gradients_in_fp16_equal_the_formula) {
  for (const Shape& shape : shapes()) check_gradient<__half>(shape, 3);
}

TEST(permutation_gradients_in_fp32_equal_the_formula) {
  for (const Shape& shape : shapes()) check_gradient<float>(shape, 3);
}

TEST(permutation_gradients_are_the_same_under_all_schedules) {
  // With and without tensor cores, within and across tiles of rows and keys.
  for (const Shape& shape : {everything(32), everything(41), everything(64, 70), everything(80)}) {
    std::vector<double> first;
    under_all_schedules([&] {
      const std::vector<double> gradients = check_gradient<__half>(shape, 8);
      if (first.empty()) first = gradients;
      EXPECT(gradients == first);
    });
  }
}

TEST(permutation_probabilities_equal_the_formula) {
  Shape shape = everything();
  shape.head_scale = shape.starts = true;
  check_probabilities<__nv_bfloat16>(shape, 3);
  check_probabilities<__half>(shape, 3);
  check_probabilities<float>(shape, 3);
}
