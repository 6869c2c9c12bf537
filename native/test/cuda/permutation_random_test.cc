// XLNet's attention in shapes drawn at random: everything that the operators take, and all of it together.
#include "cuda/permutation_testing.h"

using namespace simt::testing;
using namespace permutation_test;

namespace {

// Multiples of 8 up to 64 go to the tensor cores as they are, others are packed; large ones have kernels of their own.
int random_head_dim(Draw& draw) {
  switch (draw.in(0, 7)) {
    case 0: return draw.in(65, 128);
    case 1: return draw.in(129, 256);
    case 2:
    case 3: return 2 * draw.in(0, 40) + 1;
    default: return 8 * draw.in(1, 8);
  }
}

// Some of the small ones have more than a tile of rows and of keys, and little besides.
Shape random_shape(Draw& draw, bool small) {
  const bool tiles = small && draw.one_of(3);
  Shape s = {draw.in(1, tiles ? 2 : 3), draw.in(1, tiles ? 1 : small ? 2 : 3), random_head_dim(draw), 0, 0};
  s.length = tiles ? draw.in(50, 110) : draw.in(1, small ? 40 : 200);
  if (!draw.one_of(3)) s.memory = draw.in(1, tiles ? 80 : small ? 40 : 400);
  if (!draw.one_of(4)) {
    s.positions = !draw.one_of(3);
    s.queries = draw.in(1, s.positions ? s.length + 20 : s.length);
  }
  if (draw.one_of(4)) s.content = draw.in(s.queries > 0 ? 0 : 1, s.length);
  s.content_positions = s.rows(false) > 0 && draw.one_of(8);
  s.segments = draw.one_of(2), s.ranks = draw.one_of(2), s.biases = !draw.one_of(5), s.head_scale = draw.one_of(4);
  s.padding = draw.one_of(4), s.starts = draw.one_of(4);
  if (s.padding && draw.one_of(2)) s.gap_begin = draw.in(0, s.length), s.gap_end = draw.in(s.gap_begin, s.length);
  if (draw.one_of(3)) s.mask = draw.one_of(2) ? Mask::shared : Mask::by_batch;
  if (draw.one_of(2)) s.reversed_from = draw.in(0, s.batch);
  // Bands that leave little, and nothing, to some rows.
  if (draw.one_of(4))
    s.upper = draw.in(-s.length, 5), s.near = s.upper <= 0 && s.reversed_from >= s.batch && draw.one_of(2);
  if (draw.one_of(4)) s.lower = draw.in(-20, s.memory + 5), s.segment = draw.in(1, 20);
  if (draw.one_of(2)) s.dropout = draw.one_of(2) ? 0.25 : 0.5;
  return s;
}

template <typename T>
void check_all(const Shape& shape, int gap, uint32_t seed, Shares* shares) {
  check_forward<T>(shape, gap, seed, shares);
  check_gradient<T>(shape, gap, seed, shares);
}

}  // namespace

RANDOM_TEST(random_permutations_equal_the_formula) {
  Shares shares;
  for_random_cases(small_device().emulated ? 32 : 700 + kSmallCases, [&](uint32_t number, Draw& draw) {
    const Shape shape = random_shape(draw, number < kSmallCases);
    constexpr int kGaps[] = {0, 3, 8};
    const int gap = kGaps[draw.in(0, 2)];
    switch (draw.in(0, 5)) {
      case 0: return check_all<float>(shape, gap, number, &shares);
      case 1:
      case 2: return check_all<__half>(shape, gap, number, &shares);
      default: return check_all<__nv_bfloat16>(shape, gap, number, &shares);
    }
  });
  expect_near_bounds(shares);
}
