// Relative attention in bf16 and fp16, which the operator harness does not have, against double precision: odd shapes,
// bands, memory, strides and schedules.
#include "cuda/attention_testing.h"
#include "cuda/relative_bounds.h"
#include "cuda/relative_gradient.h"
#include "cuda/relative_gradient_plan.h"
#include "cuda/relative_reference.h"

using namespace simt::testing;
using namespace attention_test;
using namespace relative_test;

namespace {

// Operands on the device, and a block of parameters for them. `gap` of 8 keeps rows of 16-byte pieces aligned, 3 does
// not.
template <typename T>
struct Problem {
  Problem(const Shape& shape, const Operands& o, int gap_elements)
      : s(shape),
        gap(gap_elements),
        query(side_by_side<T>({narrowed<T>(o.query)}, s.batch * s.queries, s.width(), gap)),
        current(packed_keys<T>(o, s, s.memory, s.keys(), gap)),
        memory(packed_keys<T>(o, s, 0, s.memory, gap)),
        position(side_by_side<T>({narrowed<T>(o.position)}, s.positions(), s.width(), gap)),
        content_bias(narrowed<T>(o.content_bias)),
        position_bias(narrowed<T>(o.position_bias)),
        head_scale(narrowed<T>(o.head_scale)),
        starts(s.starts),
        out(o.query.size()),
        log_sum_exp(static_cast<size_t>(s.batch) * s.heads * s.queries) {
    for (auto* each : {&query, &current, &memory, &position, &content_bias, &position_bias, &head_scale}) each->read_only();
  }

  xlformers::RelativeAttentionParams params() {
    xlformers::RelativeAttentionParams p = {};
    p.dtype = kDType<T>;
    p.batch = s.batch, p.heads = s.heads, p.head_dim = s.head_dim, p.query_length = s.queries;
    p.scale = s.scale();
    p.query = query.data();
    p.query_row_stride = s.width() + gap, p.query_batch_stride = s.queries * p.query_row_stride;
    p.current = attention_rows(current, s.current_length(), s.width(), gap);
    p.memory = attention_rows(memory, s.memory, s.width(), gap);
    p.position = position.data();
    p.position_rows = s.positions(), p.position_row_stride = s.width() + gap, p.first_distance = s.first_distance();
    if (s.biases) p.content_bias = content_bias.data(), p.position_bias = position_bias.data();
    if (s.head_scale) p.head_scale = head_scale.data();
    p.band_upper = s.upper, p.band_lower = s.lower, p.band_segment = s.segment;
    if (!s.starts.empty()) p.memory_starts = starts.data();
    p.dropout = s.dropout, p.seed = kSeed, p.offset = kOffset;
    p.out = out.data(), p.log_sum_exp = log_sum_exp.data();
    return p;
  }

  Shape s;
  int gap;
  DeviceArray<T> query, current, memory, position, content_bias, position_bias, head_scale;
  DeviceArray<int32_t> starts;
  DeviceArray<T> out;
  DeviceArray<float> log_sum_exp;
};

template <typename T>
std::string describe(const Shape& s) {
  return std::string(kTypeName<T>) + " B" + std::to_string(s.batch) + " H" + std::to_string(s.heads) + " d" + std::to_string(s.head_dim) +
         " T" + std::to_string(s.queries) + " M" + std::to_string(s.memory) + " band " + std::to_string(s.upper) + " " +
         std::to_string(s.lower) + " " + std::to_string(s.segment) + " dropout " + std::to_string(s.dropout);
}

template <typename T>
void check_forward(const Shape& s, int gap, Shares* shares = nullptr) {
  const Operands operands = make_operands(s, 17, rounded<T>);
  const Results expected = reference(s, operands, kSeed, kOffset);
  Problem<T> problem(s, operands, gap);
  const auto params = problem.params();
  run(xlformers::cuda::relative_attention, &params);
  const ForwardBounds bounds = forward_bounds(s, operands, expected, kRoundingTo<T>);
  with_description(describe<T>(s), [&] {
    expect_within<T>(as_doubles(problem.out.values()), expected.out, bounds.out, "out", shares);
    expect_within<T>(as_doubles(problem.log_sum_exp.values()), expected.log_sum_exp, bounds.log_sum_exp, "log_sum_exp", shares);
  });
}

// Returns all gradients, for comparisons bit by bit. `chunks`: how dR is made (relative_gradient_plan.h); -1: as the
// operator chooses.
template <typename T>
std::vector<double> check_gradient(const Shape& s, int gap, int chunks, Shares* shares = nullptr) {
  const Operands operands = make_operands(s, 23, rounded<T>);
  const Results expected = reference(s, operands, kSeed, kOffset);
  Problem<T> problem(s, operands, gap);
  const auto narrowed_out = narrowed<T>(expected.out);
  std::copy(narrowed_out.begin(), narrowed_out.end(), problem.out.data());
  std::copy(expected.log_sum_exp.begin(), expected.log_sum_exp.end(), problem.log_sum_exp.data());
  simt::mark_initialized(problem.out.data(), expected.out.size() * sizeof(T));
  simt::mark_initialized(problem.log_sum_exp.data(), expected.log_sum_exp.size() * sizeof(float));
  DeviceArray<T> out_gradient(narrowed<T>(operands.out_gradient));
  DeviceArray<T> query(problem.query.size()), current(problem.current.size()), memory(problem.memory.size());
  DeviceArray<T> position(problem.position.size()), content_bias(problem.content_bias.size()), position_bias(problem.position_bias.size());
  xlformers::RelativeAttentionGradientParams params = {};
  params.forward = problem.params();
  params.out_gradient = out_gradient.data();
  params.query_gradient = query.data();
  params.current_key_gradient = current.data(), params.current_value_gradient = current.data() + s.width();
  if (s.memory > 0) params.memory_key_gradient = memory.data(), params.memory_value_gradient = memory.data() + s.width();
  params.position_gradient = position.data();
  if (s.biases) params.content_bias_gradient = content_bias.data(), params.position_bias_gradient = position_bias.data();
  if (chunks < 0) {
    run(xlformers::cuda::relative_attention_gradient, &params);
  } else {
    run(xlformers::cuda::relative_attention_gradient_in_chunks, params, chunks);
  }

  const GradientBounds bounds = gradient_bounds(s, operands, expected, kRoundingTo<T>);
  const int key_stride = 2 * s.width() + gap, stride = s.width() + gap;
  std::vector<double> all;
  const auto check = [&](const std::vector<double>& got, const std::vector<double>& wanted, const std::vector<double>& most,
                         const char* what) {
    expect_within<T>(got, wanted, most, what, shares);
    all.insert(all.end(), got.begin(), got.end());
  };
  const auto current_rows = [&](const std::vector<double>& values) { return rows_of(values, s, s.memory, s.keys()); };
  const auto memory_rows = [&](const std::vector<double>& values) { return rows_of(values, s, 0, s.memory); };
  const int currents = s.batch * s.current_length(), memories = s.batch * s.memory;
  with_description(describe<T>(s), [&] {
    check(gathered(query, s.batch * s.queries, s.width(), stride, 0), expected.query, bounds.query, "query");
    check(gathered(current, currents, s.width(), key_stride, 0), current_rows(expected.key), current_rows(bounds.key), "key");
    check(gathered(current, currents, s.width(), key_stride, 1), current_rows(expected.value), current_rows(bounds.value), "value");
    check(gathered(memory, memories, s.width(), key_stride, 0), memory_rows(expected.key), memory_rows(bounds.key), "memory key");
    check(gathered(memory, memories, s.width(), key_stride, 1), memory_rows(expected.value), memory_rows(bounds.value), "memory value");
    check(gathered(position, s.positions(), s.width(), stride, 0), expected.position, bounds.position, "position");
    if (s.biases) {
      check(gathered(content_bias, 1, s.width(), s.width(), 0), expected.content_bias, bounds.content_bias, "content bias");
      check(gathered(position_bias, 1, s.width(), s.width(), 0), expected.position_bias, bounds.position_bias, "position bias");
    }
  });
  return all;
}

template <typename T>
void check_probabilities(const Shape& s) {
  const Operands operands = make_operands(s, 29, rounded<T>);
  const Results expected = reference(s, operands, kSeed, kOffset);
  Problem<T> problem(s, operands, 3);
  std::copy(expected.log_sum_exp.begin(), expected.log_sum_exp.end(), problem.log_sum_exp.data());
  simt::mark_initialized(problem.log_sum_exp.data(), expected.log_sum_exp.size() * sizeof(float));
  DeviceArray<T> probabilities(expected.probabilities.size());
  const xlformers::RelativeAttentionProbabilitiesParams params = {problem.params(), probabilities.data()};
  run(xlformers::cuda::relative_attention_probabilities, &params);
  with_description(describe<T>(s), [&] {
    expect_within<T>(as_doubles(probabilities.values()), expected.probabilities, probability_bounds(s, operands, expected, kRoundingTo<T>),
                     "probabilities");
  });
}

// The memory's rows moved round, and read as a ring: the same sums in the same order.
template <typename T>
void check_ring(const Shape& s, int gap, int head) {
  const Operands operands = make_operands(s, 31, rounded<T>);
  Problem<T> plain(s, operands, gap), ring(s, operands, gap);
  const size_t row = static_cast<size_t>(2 * s.width() + gap);
  for (int b = 0; b < s.batch; ++b) {
    for (int j = 0; j < s.memory; ++j) {
      const size_t from = (static_cast<size_t>(b) * s.memory + j) * row;
      const size_t to = (static_cast<size_t>(b) * s.memory + (head + j) % s.memory) * row;
      std::copy_n(plain.memory.data() + from, row, ring.memory.data() + to);
    }
  }
  DeviceArray<int32_t> place(std::vector<int32_t>{head});
  place.read_only();
  const auto bits = [&](Problem<T>& problem, const int32_t* ring_head) {
    auto params = problem.params();
    params.memory.ring_head = ring_head;
    run(xlformers::cuda::relative_attention, &params);
    DeviceArray<T> probabilities(static_cast<size_t>(s.batch) * s.heads * s.queries * s.keys());
    const xlformers::RelativeAttentionProbabilitiesParams asked = {params, probabilities.data()};
    run(xlformers::cuda::relative_attention_probabilities, &asked);
    std::vector<float> all(problem.log_sum_exp.values());
    for (const T value : problem.out.values()) all.push_back(static_cast<float>(value));
    for (const T value : probabilities.values()) all.push_back(static_cast<float>(value));
    return all;
  };
  EXPECT(bits(ring, place.data()) == bits(plain, nullptr));
}

// Head sizes of every instance and some between, lengths around tiles.
const std::vector<Shape>& shapes() {
  static const std::vector<Shape> all = [] {
    std::vector<Shape> list;
    list.push_back({2, 2, 64, 40, 33});
    list.push_back({1, 1, 32, 129, 70});
    list.push_back({1, 3, 41, 37, 64});
    list.push_back({1, 1, 80, 65, 9});
    list.push_back({1, 1, 128, 33, 40});
    list.push_back({1, 1, 136, 35, 20});
    list.push_back({1, 1, 256, 33, 17});
    list.push_back({1, 1, 3, 17, 5});
    Shape shape = {2, 1, 64, 41, 80};  // same length
    shape.lower = 7, shape.starts = {0, 33};
    list.push_back(shape);
    shape = {1, 2, 48, 150, 48};  // windows
    shape.lower = -5, shape.segment = 16, shape.dropout = 0.25;
    list.push_back(shape);
    shape = {2, 1, 16, 31, 0};  // open
    shape.upper = 1000, shape.biases = false, shape.head_scale = true, shape.dropout = 0.25;
    list.push_back(shape);
    shape = {1, 1, 64, 20, 3};  // keys behind the queries
    shape.upper = 1000, shape.current = 50;
    list.push_back(shape);
    list.push_back({2, 2, 64, 1, 300});  // decoding
    shape = {2, 1, 41, 5, 280};
    shape.dropout = 0.25, shape.starts = {0, 270}, shape.head_scale = true;
    list.push_back(shape);
    list.push_back({1, 1, 136, 8, 70});
    shape = {1, 1, 200, 18, 30};
    shape.dropout = 0.5;
    list.push_back(shape);
    return list;
  }();
  return all;
}

// Anything that the operator takes, of sizes that a GPU has done in no time; in the emulator, smaller ones.
Shape random_shape(Draw& draw, bool small) {
  Shape shape = {draw.in(1, 3), draw.in(1, 3), draw.in(1, draw.one_of(4) ? 256 : 80), draw.in(1, small ? 40 : 200), 0};
  if (!draw.one_of(3)) shape.memory = draw.in(1, small ? 60 : 400);
  if (draw.one_of(3)) shape.upper = draw.one_of(2) ? 1000 : draw.in(-std::min(shape.memory, 5), 5);
  if (draw.one_of(3)) shape.lower = draw.in(-20, shape.memory + std::min(0, shape.upper)), shape.segment = draw.in(1, 20);
  shape.biases = !draw.one_of(4), shape.head_scale = draw.one_of(4), shape.dropout = draw.one_of(3) ? 0.25 : 0;
  if (draw.one_of(4) && shape.memory > 0) {
    // No farther than what the first query sees, or it would see nothing.
    for (int b = 0; b < shape.batch; ++b) shape.starts.push_back(draw.in(0, shape.memory + std::min(0, shape.upper)));
  }
  return shape;
}

}  // namespace

RANDOM_TEST(random_shapes_equal_the_formula) {
  Shares shares;
  for_random_cases(small_device().emulated ? 30 : 2500 + kSmallCases, [&](uint32_t number, Draw& draw) {
    const Shape shape = random_shape(draw, number < kSmallCases);
    switch (number % 5) {
      case 0: return check_forward<__nv_bfloat16>(shape, 8, &shares);
      case 1: return check_forward<__half>(shape, 3, &shares);
      case 2: return check_forward<float>(shape, 0, &shares);
      case 3: check_gradient<__nv_bfloat16>(shape, 8, -1, &shares); return;
      default: check_gradient<__half>(shape, 8, -1, &shares);
    }
  });
  expect_near_bounds(shares);
}

TEST(forward_in_bf16_equals_the_formula) {
  for (const Shape& shape : shapes()) check_forward<__nv_bfloat16>(shape, 8);
}

TEST(forward_in_fp16_equals_the_formula) {
  for (const Shape& shape : shapes()) check_forward<__half>(shape, 3);
}

TEST(forward_under_all_schedules) {
  Shape shape = {1, 1, 48, 70, 40};
  shape.dropout = 0.25;
  under_all_schedules([&] { check_forward<__nv_bfloat16>(shape, 8); });
}

TEST(gradients_in_bf16_equal_the_formula) {
  for (const Shape& shape : shapes()) check_gradient<__nv_bfloat16>(shape, 8, 0);
}

TEST(gradients_in_fp16_equal_the_formula) {
  for (const Shape& shape : shapes()) check_gradient<__half>(shape, 3, 0);
}

// dR beside dQ: one part of a batch row's queries, several, more than there are tiles.
TEST(position_gradients_beside_those_of_queries) {
  for (const Shape& shape : shapes()) {
    if (shape.head_dim > xlformers::cuda::kMostJoinedHeadDim) continue;
    check_gradient<__nv_bfloat16>(shape, 8, 1);
    check_gradient<__half>(shape, 3, 2);
  }
  check_gradient<__nv_bfloat16>({1, 1, 41, 200, 30}, 3, 5);
}

TEST(position_gradients_are_made_where_it_takes_least) {
  const auto chunks = [](const xlformers::cuda::GradientShape& shape) { return xlformers::cuda::gradient_chunks(shape, 132); };
  EXPECT_EQUAL(chunks({32, 16, 64, 384, 768, 768}), 1);  // 512 blocks: twice what runs at a time
  EXPECT_EQUAL(chunks({4, 16, 64, 1024, 1024, 1024}), 4);
  EXPECT_EQUAL(chunks({1, 16, 64, 8192, 8192, 8192}), 0);  // too few blocks
  EXPECT_EQUAL(chunks({60, 10, 41, 150, 300, 300}), 0);    // few queries for the bytes of the partial sums
  EXPECT_EQUAL(chunks({32, 16, 80, 384, 768, 768}), 0);
  EXPECT_EQUAL(chunks({0, 16, 64, 384, 768, 768}), 0);
  EXPECT_EQUAL(chunks({32, 16, 64, 0, 384, 384}), 0);
}

TEST(gradients_are_the_same_under_all_schedules) {
  Shape shape = {1, 1, 48, 70, 40};
  shape.dropout = 0.25;
  for (const int chunks : {-1, 0, 1}) {
    std::vector<double> first;
    under_all_schedules([&] {
      const std::vector<double> gradients = check_gradient<__half>(shape, 8, chunks);
      if (first.empty()) first = gradients;
      EXPECT(gradients == first);
    });
  }
}

TEST(a_ring_gives_what_rows_in_order_give) {
  Shape few = {2, 2, 64, 1, 70};
  few.starts = {0, 33};
  for (const Shape& shape : {few, Shape{1, 2, 41, 5, 40}, Shape{1, 1, 48, 33, 19}}) {
    for (const int head : {0, 1, shape.memory - 1}) {
      check_ring<__nv_bfloat16>(shape, 8, head);
      check_ring<__half>(shape, 3, head);
    }
  }
}

TEST(probabilities_in_bf16_and_fp16_equal_the_formula) {
  Shape shape = {2, 2, 41, 20, 50};
  shape.head_scale = true, shape.dropout = 0.25, shape.starts = {0, 30};
  check_probabilities<__nv_bfloat16>(shape);
  check_probabilities<__half>(shape);
}
