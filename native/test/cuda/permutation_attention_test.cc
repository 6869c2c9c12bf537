// XLNet's attention in bf16, fp16 and fp32 against double precision: both streams, with all that hides keys, in odd shapes.
#include "cuda/attention_testing.h"
#include "cuda/permutation_reference.h"

using namespace simt::testing;
using namespace attention_test;
using namespace permutation_test;

namespace {

constexpr uint64_t kOffsets[2] = {kOffset, 0x700000001ull};

// The log-sum-exp of a row that sees nothing is below.
constexpr double kBlind = -5e29;

// Operands on the device, and a block of parameters for them. `gap` of 8 keeps rows of 16-byte pieces aligned, 3 does not.
template <typename T>
struct Problem {
  struct Stream {
    Stream(const Shape& s, const std::vector<double>& given, int rows, int gap)
        : query(side_by_side<T>({narrowed<T>(given)}, s.batch * rows, s.width(), gap)),
          out(given.size()),
          log_sum_exp(static_cast<size_t>(s.batch) * s.heads * rows) {
      query.read_only();
    }

    DeviceArray<T> query, out;
    DeviceArray<float> log_sum_exp;
  };

  Problem(const Shape& shape, const Operands& o, int gap_elements)
      : s(shape),
        gap(gap_elements),
        streams{{s, o.query[0], s.rows(false), gap}, {s, o.query[1], s.rows(true), gap}},
        current(side_by_side<T>({narrowed<T>(rows_of(o.key, s, s.memory, s.keys())), narrowed<T>(rows_of(o.value, s, s.memory, s.keys()))},
                                s.batch * s.length, s.width(), gap)),
        memory(side_by_side<T>({narrowed<T>(rows_of(o.key, s, 0, s.memory)), narrowed<T>(rows_of(o.value, s, 0, s.memory))},
                               s.batch * s.memory, s.width(), gap)),
        position(side_by_side<T>({narrowed<T>(o.position)}, s.position_rows(), s.width(), gap)),
        content_bias(narrowed<T>(o.content_bias)),
        position_bias(narrowed<T>(o.position_bias)),
        segment_bias(narrowed<T>(o.segment_bias)),
        segment_embedding(narrowed<T>(o.segment_embedding)),
        head_scale(narrowed<T>(o.head_scale)),
        positions(o.positions),
        segments(o.segments),
        query_ranks(o.query_ranks),
        key_ranks(o.key_ranks),
        starts(o.starts),
        mask(o.mask),
        padding(o.padding) {
    for (auto* each : {&current, &memory, &position, &content_bias, &position_bias, &segment_bias, &segment_embedding, &head_scale}) {
      each->read_only();
    }
  }

  xlformers::AttentionStream stream(bool query) {
    xlformers::AttentionStream to = {};
    Stream& from = streams[query ? 1 : 0];
    to.length = s.rows(query), to.row_stride = s.width() + gap, to.batch_stride = to.length * to.row_stride;
    to.sees_itself = query ? 0 : 1, to.offset = kOffsets[query ? 1 : 0];
    if (query && s.positions) to.positions = positions.data();
    if (to.length > 0) to.query = from.query.data(), to.out = from.out.data(), to.log_sum_exp = from.log_sum_exp.data();
    return to;
  }

  xlformers::PermutationAttentionParams params() {
    const int64_t row = 2 * s.width() + gap;
    xlformers::PermutationAttentionParams p = {};
    p.dtype = kDType<T>;
    p.batch = s.batch, p.heads = s.heads, p.head_dim = s.head_dim;
    p.scale = s.scale();
    p.content = stream(false), p.query = stream(true);
    p.current = {current.data(), current.data() + s.width(), s.length, row, s.length * row, nullptr};
    if (s.memory > 0) p.memory = {memory.data(), memory.data() + s.width(), s.memory, row, s.memory * row, nullptr};
    p.position = position.data();
    p.position_rows = s.position_rows(), p.position_row_stride = s.width() + gap, p.first_distance = s.first_distance();
    p.reversed_from = s.reversed_from;
    if (s.biases) p.content_bias = content_bias.data(), p.position_bias = position_bias.data(), p.segment_bias = segment_bias.data();
    if (s.segments) p.segment_embedding = segment_embedding.data(), p.segments = segments.data();
    if (s.ranks) p.query_ranks = query_ranks.data(), p.key_ranks = key_ranks.data();
    if (s.mask != Mask::none) p.mask = mask.data(), p.mask_batch = s.mask == Mask::shared ? 1 : s.batch;
    if (s.padding) p.key_mask = padding.data();
    if (s.starts) p.memory_starts = starts.data();
    if (s.head_scale) p.head_scale = head_scale.data();
    p.band_upper = s.upper, p.band_lower = s.lower, p.band_segment = s.segment;
    p.dropout = s.dropout, p.seed = kSeed;
    return p;
  }

  // What a forward pass leaves.
  void put(const Results& expected) {
    for (int q = 0; q < 2; ++q) {
      const auto out = narrowed<T>(expected.stream[q].out);
      std::copy(out.begin(), out.end(), streams[q].out.data());
      std::copy(expected.stream[q].log_sum_exp.begin(), expected.stream[q].log_sum_exp.end(), streams[q].log_sum_exp.data());
      simt::mark_initialized(streams[q].out.data(), out.size() * sizeof(T));
      simt::mark_initialized(streams[q].log_sum_exp.data(), expected.stream[q].log_sum_exp.size() * sizeof(float));
    }
  }

  Shape s;
  int gap;
  Stream streams[2];
  DeviceArray<T> current, memory, position, content_bias, position_bias, segment_bias, segment_embedding, head_scale;
  DeviceArray<int32_t> positions, segments, query_ranks, key_ranks, starts;
  DeviceArray<uint8_t> mask, padding;
};

std::string describe(const Shape& s, bool query) {
  return "B" + std::to_string(s.batch) + " H" + std::to_string(s.heads) + " d" + std::to_string(s.head_dim) + " T" +
         std::to_string(s.length) + " M" + std::to_string(s.memory) + " Q" + std::to_string(s.queries) + (query ? " query" : " content");
}

// Scores: fp32 sums of 3 head_dim products.
double score_error(const Shape& s, const Operands& o) {
  return 6 * (s.head_dim + 8) * 0x1p-24 * std::max(largest(o.query[0]), largest(o.query[1]));
}

template <typename T>
void check_forward(const Shape& s, int gap) {
  const Operands operands = make_operands(s, 17, rounded<T>);
  const Results expected = reference(s, operands, kSeed, kOffsets);
  Problem<T> problem(s, operands, gap);
  const auto params = problem.params();
  run(xlformers::cuda::permutation_attention, &params);
  // Probabilities, which sum to 1, are rounded before they meet the values, and so is the result: two roundings, of numbers no larger
  // than the largest value after dropout.
  const double size = largest(operands.value) * largest(operands.head_scale) / (1 - s.dropout);
  const double scores = score_error(s, operands);
  for (int q = 0; q < 2; ++q) {
    auto& stream = problem.streams[q];
    std::vector<double> sums = expected.stream[q].log_sum_exp, got(sums.size());
    for (size_t i = 0; i < sums.size(); ++i) {
      got[i] = stream.log_sum_exp[i];
      if (sums[i] < kBlind && got[i] < kBlind) sums[i] = got[i] = 0;
    }
    expect_close(stream.out.data(), expected.stream[q].out, (2 * kRounding<T> + scores) * size, describe(s, q == 1) + " out");
    expect_close(got.data(), sums, scores, describe(s, q == 1) + " log_sum_exp");
  }
}

// What the gradients of biases and of e may be off by, because D = dO . O is made of the rounded O: each is a sum over all rows of
// scale * (error of D) * (an average of operands, standard normal or a sum of two such), errors and operands of random signs. Four
// standard deviations. It counts here because sums of dS over keys cancel, down to nothing for e_0 + e_1.
template <typename T>
double noise_of_sums(const Shape& s, const Operands& o, const Results& r) {
  double largest_error = 0, rows = 0;
  for (int q = 0; q < 2; ++q) {
    rows += s.batch * s.rows(q == 1);
    for (size_t first = 0; first < o.out_gradient[q].size(); first += s.head_dim) {
      double squares = 0;
      for (size_t c = first; c < first + s.head_dim; ++c) squares += std::pow(o.out_gradient[q][c] * r.stream[q].out[c], 2);
      largest_error = std::max(largest_error, kRounding<T> * std::sqrt(squares));
    }
  }
  return 4 * s.scale() * std::sqrt(2 * rows) * largest_error;
}

// Returns all gradients, for comparisons bit by bit.
template <typename T>
std::vector<double> check_gradient(const Shape& s, int gap) {
  const Operands operands = make_operands(s, 23, rounded<T>);
  const Results expected = reference(s, operands, kSeed, kOffsets);
  Problem<T> problem(s, operands, gap);
  problem.put(expected);
  DeviceArray<T> out_gradients[2] = {DeviceArray<T>(narrowed<T>(operands.out_gradient[0])),
                                     DeviceArray<T>(narrowed<T>(operands.out_gradient[1]))};
  DeviceArray<T> queries[2] = {DeviceArray<T>(problem.streams[0].query.size()), DeviceArray<T>(problem.streams[1].query.size())};
  DeviceArray<T> current(problem.current.size()), memory(problem.memory.size()), position(problem.position.size());
  DeviceArray<T> content_bias(s.width()), position_bias(s.width()), segment_bias(s.width()), segment_embedding(2 * s.width());
  xlformers::PermutationAttentionGradientParams params = {};
  params.forward = problem.params();
  if (s.rows(false) > 0) params.content_out_gradient = out_gradients[0].data(), params.content_gradient = queries[0].data();
  if (s.rows(true) > 0) params.query_out_gradient = out_gradients[1].data(), params.query_gradient = queries[1].data();
  params.current_key_gradient = current.data(), params.current_value_gradient = current.data() + s.width();
  if (s.memory > 0) params.memory_key_gradient = memory.data(), params.memory_value_gradient = memory.data() + s.width();
  params.position_gradient = position.data();
  if (s.biases) params.content_bias_gradient = content_bias.data(), params.position_bias_gradient = position_bias.data();
  if (s.biases) params.segment_bias_gradient = segment_bias.data();
  if (s.segments) params.segment_embedding_gradient = segment_embedding.data();
  run(xlformers::cuda::permutation_attention_gradient, &params);

  // Products of probabilities, dS and operands: P and dS are rounded once each, and D = dO . O has O rounded; the result once more. The
  // rounding errors of a sum grow as the root of its length against terms that may cancel: sums of up to 200 random terms, 4 roundings.
  const double tolerance = 8 * kRounding<T> + 12 * (s.head_dim + 8) * 0x1p-24;
  const int key_stride = 2 * s.width() + gap, stride = s.width() + gap;
  std::vector<double> all;
  const double noise = noise_of_sums<T>(s, operands, expected);
  const auto check = [&](const std::vector<double>& got, const std::vector<double>& wanted, const char* what, double absolute = 1e-6) {
    expect_near(got, wanted, tolerance, describe(s, false) + what, absolute);
    all.insert(all.end(), got.begin(), got.end());
  };
  const int current_rows = s.batch * s.length, memory_rows = s.batch * s.memory;
  for (int q = 0; q < 2; ++q) {
    check(gathered(queries[q], s.batch * s.rows(q == 1), s.width(), stride, 0), expected.stream[q].query, q == 1 ? " query" : " content");
  }
  check(gathered(current, current_rows, s.width(), key_stride, 0), rows_of(expected.key, s, s.memory, s.keys()), " key");
  check(gathered(current, current_rows, s.width(), key_stride, 1), rows_of(expected.value, s, s.memory, s.keys()), " value");
  check(gathered(memory, memory_rows, s.width(), key_stride, 0), rows_of(expected.key, s, 0, s.memory), " memory key");
  check(gathered(memory, memory_rows, s.width(), key_stride, 1), rows_of(expected.value, s, 0, s.memory), " memory value");
  check(gathered(position, s.position_rows(), s.width(), stride, 0), expected.position, " position");
  if (s.biases) {
    check(gathered(content_bias, 1, s.width(), s.width(), 0), expected.content_bias, " content bias", noise);
    check(gathered(position_bias, 1, s.width(), s.width(), 0), expected.position_bias, " position bias", noise);
    check(gathered(segment_bias, 1, s.width(), s.width(), 0), expected.segment_bias, " segment bias", noise);
  }
  if (s.segments) check(gathered(segment_embedding, 2, s.width(), s.width(), 0), expected.segment_embedding, " segment embedding", noise);
  return all;
}

template <typename T>
void check_probabilities(const Shape& s) {
  const Operands operands = make_operands(s, 29, rounded<T>);
  const Results expected = reference(s, operands, kSeed, kOffsets);
  Problem<T> problem(s, operands, 3);
  problem.put(expected);
  DeviceArray<T> probabilities[2] = {DeviceArray<T>(expected.stream[0].probabilities.size()),
                                     DeviceArray<T>(expected.stream[1].probabilities.size())};
  const xlformers::PermutationAttentionProbabilitiesParams params = {problem.params(), probabilities[0].data(), probabilities[1].data()};
  run(xlformers::cuda::permutation_attention_probabilities, &params);
  // One rounding, of numbers no larger than these, behind the errors of a score in fp32.
  const double tolerance = (kRounding<T> + 2 * score_error(s, operands)) * largest(operands.head_scale) / (1 - s.dropout);
  for (int q = 0; q < 2; ++q) {
    expect_close(probabilities[q].data(), expected.stream[q].probabilities, tolerance, describe(s, q == 1) + " probabilities");
  }
}

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
  check_probabilities<__nv_bfloat16>(shape);
  check_probabilities<__half>(shape);
  check_probabilities<float>(shape);
}
