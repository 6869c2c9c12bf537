// Softmax cross-entropy, top probabilities and sampling: number formats, odd rows, ties, numbers that are none.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "core/philox.h"
#include "operator_runner.h"

using namespace simt::testing;
using namespace xlformers;
using simt::DeviceArray;

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Rows that begin anywhere within 16 bytes, shorter than a vector, a warp and a block, and longer than a block's turn.
struct Shape {
  size_t rows, columns;
};
const Shape kShapes[] = {{1, 1}, {3, 7}, {2, 33}, {5, 41}, {3, 513}, {2, 4105}};

std::vector<double> row_of(const std::vector<double>& values, size_t row, size_t columns) {
  return {values.begin() + static_cast<ptrdiff_t>(row * columns),
          values.begin() + static_cast<ptrdiff_t>((row + 1) * columns)};
}

double log_sum_exp_of(const std::vector<double>& row) {
  const double top = *std::max_element(row.begin(), row.end());
  double sum = 0;
  for (const double value : row) sum += std::exp(value - top);
  return top + std::log(sum);
}

std::vector<float> scores_of(size_t count, uint32_t seed) {
  std::vector<float> values = short_numbers(count, seed);
  for (float& value : values) value *= 4;
  return values;
}

// Of a sum of `columns` exponentials in fp32, each of them and each addition off by 2^-24 or a little more.
double sum_error(size_t columns) { return (static_cast<double>(columns) / 32 + 24) * std::ldexp(1.0, -24); }

template <typename T>
void check_cross_entropy(const Shape& shape) {
  const size_t count = shape.rows * shape.columns;
  const std::vector<T> logits = converted<T>(scores_of(count, 1));
  std::vector<int32_t> labels;
  for (size_t row = 0; row < shape.rows; ++row)
    labels.push_back(row == 1 ? kIgnoredLabel : static_cast<int32_t>(row * 17 % shape.columns));
  const std::vector<float> given = short_numbers(shape.rows, 2);
  DeviceArray<T> device_logits(logits);
  DeviceArray<int32_t> device_labels(labels);
  DeviceArray<float> loss_gradient(given);
  device_logits.read_only();
  const std::vector<double> reference = as_doubles(logits);

  under_all_schedules([&] {
    OperatorRunner runner;
    DeviceArray<float> loss(shape.rows), log_sum_exp(shape.rows);
    DeviceArray<T> gradient(count);
    SoftmaxCrossEntropyParams params = {};
    params.dtype = Format<T>::kType;
    params.rows = static_cast<int64_t>(shape.rows);
    params.columns = static_cast<int64_t>(shape.columns);
    params.logits = device_logits.data();
    params.labels = device_labels.data();
    params.log_sum_exp = log_sum_exp.data();
    params.loss = loss.data();
    params.loss_gradient = loss_gradient.data();
    params.logits_gradient = gradient.data();
    expect_ok(runner.run([&](const cuda::Context& context) { return cuda::softmax_cross_entropy(context, &params); }));
    expect_ok(runner.run(
        [&](const cuda::Context& context) { return cuda::softmax_cross_entropy_gradient(context, &params); }));
    EXPECT_EQUAL(runner.error().claimed, 0u);
    for (size_t row = 0; row < shape.rows; ++row) {
      const std::vector<double> x = row_of(reference, row, shape.columns);
      const double wanted = log_sum_exp_of(x), error = sum_error(shape.columns) * (1 + std::fabs(wanted));
      const bool counts = labels[row] != kIgnoredLabel;
      expect_near("log_sum_exp", row, log_sum_exp[row], wanted, error);
      expect_near("loss", row, loss[row], counts ? wanted - x[static_cast<size_t>(labels[row])] : 0,
                  counts ? 2 * error : 0);
      for (size_t i = 0; i < shape.columns; ++i) {
        const double one = static_cast<int32_t>(i) == labels[row] ? 1 : 0;
        const double expected = counts ? given[row] * (std::exp(x[i] - wanted) - one) : 0;
        expect_near("gradient", row * shape.columns + i, cuda::to_float(gradient[row * shape.columns + i]), expected,
                    counts ? Format<T>::kUnit / 2 * std::fabs(expected) + 2 * error + std::ldexp(1.0, -25) : 0);
      }
    }
  });
}

template <typename T>
void check_top_probabilities(const Shape& shape, size_t k) {
  const size_t count = shape.rows * shape.columns;
  std::vector<T> scores = converted<T>(scores_of(count, 3));  // 2^10 values at most: ties
  scores[count / 2] = cuda::from_float<T>(-std::numeric_limits<float>::infinity());
  DeviceArray<T> device_scores(scores);
  device_scores.read_only();
  const std::vector<double> reference = as_doubles(scores);
  under_all_schedules([&] {
    OperatorRunner runner;
    DeviceArray<T> probabilities(count), top(shape.rows * k);
    DeviceArray<int32_t> indices(shape.rows * k);
    const TopProbabilitiesParams params = {Format<T>::kType,
                                           static_cast<int64_t>(shape.rows),
                                           static_cast<int64_t>(shape.columns),
                                           static_cast<int64_t>(k),
                                           device_scores.data(),
                                           probabilities.data(),
                                           top.data(),
                                           indices.data()};
    expect_ok(runner.run([&](const cuda::Context& context) { return cuda::top_probabilities(context, &params); }));
    for (size_t row = 0; row < shape.rows; ++row) {
      const std::vector<double> x = row_of(reference, row, shape.columns);
      std::vector<int32_t> order(shape.columns);
      std::iota(order.begin(), order.end(), 0);
      std::stable_sort(order.begin(), order.end(),
                       [&](int32_t a, int32_t b) { return x[static_cast<size_t>(a)] > x[static_cast<size_t>(b)]; });
      const double total = log_sum_exp_of(x);
      for (size_t i = 0; i < shape.columns && std::isfinite(total); ++i) {
        const double wanted = std::exp(x[i] - total);
        expect_near("probability", i, cuda::to_float(probabilities[row * shape.columns + i]), wanted,
                    (Format<T>::kUnit / 2 + sum_error(shape.columns)) * wanted + std::ldexp(1.0, -25));
      }
      for (size_t place = 0; place < k; ++place) {
        EXPECT_EQUAL(indices[row * k + place], order[place]);
        const size_t column = static_cast<size_t>(order[place]);
        if (!std::isfinite(total)) continue;
        EXPECT_EQUAL(cuda::to_float(top[row * k + place]), cuda::to_float(probabilities[row * shape.columns + column]));
      }
    }
  });
}

struct Truncation {
  double temperature;
  int64_t top_k;
  double top_p;
};

// Weights of the kept columns by the contract's words: sorted, cut, and where the draw may fall.
std::vector<double> kept_weights(const std::vector<double>& scores, const Truncation& truncation) {
  const double top = *std::max_element(scores.begin(), scores.end());
  std::vector<size_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return scores[a] > scores[b]; });
  std::vector<double> weights;
  for (const double score : scores) weights.push_back(std::exp((score - top) / truncation.temperature));
  if (truncation.top_k > 0) {
    for (size_t i = static_cast<size_t>(truncation.top_k); i < order.size(); ++i) weights[order[i]] = 0;
  }
  const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  double sum = 0;
  for (const size_t column : order) {
    if (sum >= truncation.top_p * total && sum > 0 && truncation.top_p < 1) weights[column] = 0;
    sum += weights[column];
  }
  return weights;
}

template <typename T>
void check_sample(const Shape& shape, const Truncation& truncation) {
  const std::vector<T> scores = converted<T>(scores_of(shape.rows * shape.columns, 4));
  DeviceArray<T> device_scores(scores);
  device_scores.read_only();
  const std::vector<double> reference = as_doubles(scores);
  under_all_schedules([&] {
    OperatorRunner runner;
    DeviceArray<int32_t> ids(shape.rows);
    DeviceArray<float> log_probability(shape.rows);
    SampleParams params = {Format<T>::kType,
                           static_cast<int64_t>(shape.rows),
                           static_cast<int64_t>(shape.columns),
                           truncation.temperature,
                           truncation.top_k,
                           truncation.top_p,
                           123456789012345ull,
                           9,
                           nullptr,
                           device_scores.data(),
                           ids.data(),
                           log_probability.data()};
    expect_ok(runner.run([&](const cuda::Context& context) { return cuda::sample(context, &params); }));
    const PhiloxStream stream = {params.seed, params.offset};
    for (size_t row = 0; row < shape.rows; ++row) {
      const std::vector<double> x = row_of(reference, row, shape.columns);
      const auto id = static_cast<size_t>(ids[row]);
      EXPECT(id < shape.columns);
      const double error = sum_error(shape.columns);
      expect_near("log_probability", row, log_probability[row], x[id] - log_sum_exp_of(x), 16 * error);
      if (truncation.temperature == 0) {
        EXPECT_EQUAL(id, static_cast<size_t>(std::max_element(x.begin(), x.end()) - x.begin()));
        continue;
      }
      const std::vector<double> weights = kept_weights(x, truncation);
      const auto end = weights.begin() + static_cast<ptrdiff_t>(id);
      const double total = std::accumulate(weights.begin(), weights.end(), 0.0),
                   before = std::accumulate(weights.begin(), end, 0.0);
      const double target = stream.block(static_cast<uint32_t>(row), 0, 2).word[0] * 0x1p-32 * total;
      EXPECT(weights[id] > 0);
      EXPECT(before <= target + error * total && target < before + weights[id] + error * total);
    }
  });
}

template <typename T>
void check_samples() {
  const Truncation truncations[] = {{0, 0, 1}, {1, 0, 1}, {0.7, 5, 1}, {1.5, 0, 0.6}, {1, 9, 0.45}, {1, 0, 1e-9}};
  for (const Truncation& truncation : truncations) {
    for (const Shape& shape : {Shape{20, 11}, Shape{2, 1031}}) check_sample<T>(shape, truncation);
  }
}

}  // namespace

TEST(cross_entropy_fp32) {
  for (const Shape& shape : kShapes) check_cross_entropy<float>(shape);
}
TEST(cross_entropy_bf16) {
  for (const Shape& shape : kShapes) check_cross_entropy<__nv_bfloat16>(shape);
}
TEST(cross_entropy_fp16) {
  for (const Shape& shape : kShapes) check_cross_entropy<__half>(shape);
}

TEST(cross_entropy_says_which_label_is_wrong) {
  for (const int32_t bad : {4, -1, -101, INT32_MAX, INT32_MIN}) {
    OperatorRunner runner;
    DeviceArray<float> logits(std::vector<float>{1, 2, 3, 4, 5, 6, 7, 8}), loss(2),
        log_sum_exp(std::vector<float>{4.4f, 8.4f}), gradient(8);
    DeviceArray<float> loss_gradient(std::vector<float>{1, 1});
    DeviceArray<int32_t> labels(std::vector<int32_t>{3, bad});
    const SoftmaxCrossEntropyParams params = {
        DType::f32,     2, 4, logits.data(), labels.data(), log_sum_exp.data(), loss.data(), loss_gradient.data(),
        gradient.data()};
    expect_ok(runner.run([&](const cuda::Context& context) { return cuda::softmax_cross_entropy(context, &params); }));
    EXPECT_EQUAL(runner.error().value, bad);
    EXPECT_EQUAL(runner.error().index, 1);
    EXPECT_EQUAL(loss[1], 0.0f);
    expect_ok(runner.run(
        [&](const cuda::Context& context) { return cuda::softmax_cross_entropy_gradient(context, &params); }));
    EXPECT(runner.error().kind == cuda::DataErrorKind::label);
    EXPECT_EQUAL(runner.error().high, 4);
    EXPECT(gradient[2] > 0);
    for (size_t i = 4; i < 8; ++i) EXPECT_EQUAL(gradient[i], 0.0f);
  }
}

TEST(cross_entropy_of_infinite_logits) {
  const float none = -static_cast<float>(kInfinity), nan = std::nanf("");
  DeviceArray<float> logits(std::vector<float>{none, 1, none, none, none, none, 1, nan, 2}), loss(3), log_sum_exp(3);
  DeviceArray<int32_t> labels(std::vector<int32_t>{1, kIgnoredLabel, 0});
  OperatorRunner runner;
  const SoftmaxCrossEntropyParams params = {DType::f32,         3,           3,       logits.data(), labels.data(),
                                            log_sum_exp.data(), loss.data(), nullptr, nullptr};
  expect_ok(runner.run([&](const cuda::Context& context) { return cuda::softmax_cross_entropy(context, &params); }));
  EXPECT_EQUAL(loss[0], 0.0f);
  EXPECT_EQUAL(log_sum_exp[1], none);
  EXPECT_EQUAL(loss[1], 0.0f);
  EXPECT(std::isnan(loss[2]));
}

TEST(top_probabilities_of_all_formats) {
  for (const Shape& shape : {Shape{1, 1}, Shape{3, 7}, Shape{2, 41}}) {
    check_top_probabilities<float>(shape, shape.columns);
    check_top_probabilities<__nv_bfloat16>(shape, std::min<size_t>(shape.columns, 5));
    check_top_probabilities<__half>(shape, std::min<size_t>(shape.columns, 5));
  }
  check_top_probabilities<float>({2, 1031}, 5);
}

TEST(top_probabilities_put_nan_last) {
  DeviceArray<float> scores(
      std::vector<float>{std::nanf(""), -0.0f, -static_cast<float>(kInfinity), 0.0f, std::nanf("")});
  DeviceArray<float> probabilities(5), top(5);
  DeviceArray<int32_t> indices(5);
  OperatorRunner runner;
  const TopProbabilitiesParams params = {DType::f32,    1, 5, 5, scores.data(), probabilities.data(), top.data(),
                                         indices.data()};
  expect_ok(runner.run([&](const cuda::Context& context) { return cuda::top_probabilities(context, &params); }));
  const int32_t wanted[] = {1, 3, 2, 0, 4};
  for (size_t i = 0; i < 5; ++i) EXPECT_EQUAL(indices[i], wanted[i]);
}

TEST(sample_fp32) { check_samples<float>(); }
TEST(sample_bf16) { check_samples<__nv_bfloat16>(); }
TEST(sample_fp16) { check_samples<__half>(); }

TEST(sample_cuts_equals_by_their_id) {
  // Equal halves reach one half exactly; of four equals the two lower ids are the two best, and of those the first is
  // enough.
  const struct {
    std::vector<float> scores;
    Truncation truncation;
    int32_t highest;
  } cases[] = {{{0, 0}, {1, 0, 0.5}, 0},
               {{-9, 3, 3, 3, 3}, {1, 2, 1}, 2},
               {{-9, 3, 3, 3, 3}, {1, 2, 0.5}, 1},
               {{-0.0f, 0.0f, 0.0f}, {2, 0, 0.6}, 1}};
  for (const auto& one : cases) {
    const size_t rows = 64, columns = one.scores.size();
    std::vector<float> table;
    for (size_t row = 0; row < rows; ++row) table.insert(table.end(), one.scores.begin(), one.scores.end());
    DeviceArray<float> scores(table);
    DeviceArray<int32_t> ids(rows);
    OperatorRunner runner;
    const SampleParams params = {DType::f32,
                                 static_cast<int64_t>(rows),
                                 static_cast<int64_t>(columns),
                                 one.truncation.temperature,
                                 one.truncation.top_k,
                                 one.truncation.top_p,
                                 5,
                                 0,
                                 nullptr,
                                 scores.data(),
                                 ids.data(),
                                 nullptr};
    expect_ok(runner.run([&](const cuda::Context& context) { return cuda::sample(context, &params); }));
    EXPECT_EQUAL(*std::max_element(ids.data(), ids.data() + rows), one.highest);
  }
}

// Row r as a call of its own with the seed and offset of its stream, which counts on; from both halves of the offset.
TEST(sample_draws_from_stored_streams) {
  const uint32_t words[3][4] = {{7, 0, 0xFFFFFFFFu, 0}, {7, 0, 5, 3}, {0x89ABCDEFu, 0x12345u, 0, 0}};
  const size_t columns = 300;
  const std::vector<float> scores = scores_of(3 * columns, 4);
  DeviceArray<float> table(scores);
  table.read_only();
  under_all_schedules([&] {
    DeviceArray<uint32_t> streams(std::vector<uint32_t>(&words[0][0], &words[0][0] + 12));
    DeviceArray<int32_t> ids(3), alone(1);
    OperatorRunner runner;
    SampleParams params = {
        DType::f32, 3,      static_cast<int64_t>(columns), 0.7, 40, 0.9, 99, 99, streams.data(), table.data(),
        ids.data(), nullptr};
    const auto draw = [&](const SampleParams& block) {
      expect_ok(runner.run([&](const cuda::Context& context) { return cuda::sample(context, &block); }));
    };
    for (uint64_t round = 0; round < 3; ++round) {
      draw(params);
      for (size_t row = 0; row < 3; ++row) {
        const PhiloxStream stream = stored_stream(words[row]);
        draw({DType::f32, 1, static_cast<int64_t>(columns), 0.7, 40, 0.9, stream.seed, stream.offset + round, nullptr,
              table.data() + row * columns, alone.data(), nullptr});
        EXPECT_EQUAL(ids[row], alone[0]);
        EXPECT_EQUAL(stored_stream(streams.data() + 4 * row).offset, stream.offset + round + 1);
        EXPECT_EQUAL(stored_stream(streams.data() + 4 * row).seed, stream.seed);
      }
    }
    const uint32_t before = streams[2];
    params.temperature = 0;
    draw(params);
    EXPECT_EQUAL(streams[2], before);
  });
}

TEST(sample_without_any_weight_takes_the_best) {
  const float nan = std::nanf(""), none = -static_cast<float>(kInfinity);
  DeviceArray<float> scores(std::vector<float>{nan, none, none, nan, nan, nan, 1, -none, 2});
  DeviceArray<int32_t> ids(3);
  OperatorRunner runner;
  const SampleParams params = {DType::f32, 3, 3, 1, 2, 0.9, 5, 0, nullptr, scores.data(), ids.data(), nullptr};
  expect_ok(runner.run([&](const cuda::Context& context) { return cuda::sample(context, &params); }));
  EXPECT_EQUAL(ids[0], 1);
  EXPECT_EQUAL(ids[1], 0);
  EXPECT_EQUAL(ids[2], 1);
}
