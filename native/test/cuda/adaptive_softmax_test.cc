// The adaptive softmax in all number formats and however its logits are cut up, against its definition in double.
#include "cuda/adaptive_softmax.h"

#include <cmath>
#include <memory>

#include "operator_runner.h"

using namespace simt::testing;
using namespace xlformers;
using simt::DeviceArray;

namespace {

using Doubles = std::vector<double>;

constexpr size_t kRows = 11, kModel = 5, kClusters = 3;
constexpr size_t kSizes[kClusters] = {7, 9, 30}, kWidths[kClusters] = {5, 3, 2};
constexpr size_t kVocabulary = 46;

// Labels of every cluster, out of order, the last tail's in several chunks; -100 does not count.
const std::vector<int32_t> kLabels = {20, 3, kIgnoredLabel, 45, 8, 16, 0, 31, 6, 15, 17};

// Whole, a few rows at a time, and rows with their columns split in blocks of eight, across the head's two parts.
struct Cut {
  int64_t logits, most_rows, fewest_rows;
};
const Cut kCuts[] = {{100000, 2048, 256}, {100000, 4, 1}, {96, 11, 2}, {44, 5, 5}};

// A matrix and its gradient: for tests of one format, and in double.
template <typename T>
struct Matrix {
  Matrix(size_t rows_, size_t columns_, uint32_t seed, float scale)
      : rows(rows_), columns(columns_), gradient(rows_ * columns_, 0.0) {
    std::vector<float> drawn = short_numbers(rows * columns, seed);
    for (float& value : drawn) value *= scale;
    const std::vector<T> stored = converted<T>(drawn);
    values = as_doubles(stored);
    device = std::make_unique<DeviceArray<T>>(stored);
    device->read_only();
    renew();
  }

  void renew() { device_gradient = std::make_unique<DeviceArray<T>>(rows * columns); }
  double at(size_t row, size_t column) const { return values[row * columns + column]; }

  size_t rows, columns;
  Doubles values, gradient;
  std::unique_ptr<DeviceArray<T>> device, device_gradient;
};

template <typename T>
struct Problem {
  bool projected, reversed;
  Matrix<T> hidden{kRows, kModel, 1, 1};
  std::vector<Matrix<T>> weight, bias, projection;
  Matrix<T> cluster_weight, cluster_bias;
  std::vector<float> loss_gradient = short_numbers(kRows, 9);
  Doubles loss = Doubles(kRows, 0.0), log_probabilities = Doubles(kRows * kVocabulary, 0.0);
  double largest_logit = 1;

  Problem(bool projected_, bool reversed_)
      : projected(projected_),
        reversed(reversed_),
        cluster_weight(kClusters - 1, width(0), 7, 1),
        cluster_bias(1, kClusters - 1, 8, 1) {
    for (uint32_t c = 0; c < kClusters; ++c) {
      weight.emplace_back(kSizes[c], width(c), 10 + c, 1.0f);
      bias.emplace_back(size_t{1}, kSizes[c], 20 + c, 1.0f);
      projection.emplace_back(kModel, width(c), 30 + c, 1.0f);
    }
    evaluate();
  }

  size_t width(size_t cluster) const { return projected ? kWidths[cluster] : kModel; }
  size_t tail_column(size_t tail) const { return kSizes[0] + (reversed ? kClusters - 1 - tail : tail - 1); }

  // One row's softmax of a cluster, and with `label` >= 0 its share of the gradients.
  Doubles log_softmax(size_t row, size_t cluster, int64_t label) {
    const size_t columns = kSizes[cluster] + (cluster == 0 ? kClusters - 1 : 0), inner = width(cluster);
    Doubles x(inner, 0.0), logits(columns);
    for (size_t k = 0; k < inner; ++k) {
      for (size_t d = 0; d < kModel; ++d)
        x[k] += hidden.at(row, d) * (projected ? projection[cluster].at(d, k) : (d == k ? 1 : 0));
    }
    double sum = 0;
    for (size_t i = 0; i < columns; ++i) {
      const bool word = i < kSizes[cluster];
      const size_t j = word ? i : i - kSizes[cluster];
      logits[i] = (word ? bias[cluster] : cluster_bias).at(0, j);
      for (size_t k = 0; k < inner; ++k) logits[i] += x[k] * (word ? weight[cluster] : cluster_weight).at(j, k);
      largest_logit = std::max(largest_logit, std::fabs(logits[i]));
      sum += std::exp(logits[i]);
    }
    for (double& logit : logits) logit -= std::log(sum);
    if (label < 0) return logits;
    loss[row] -= logits[static_cast<size_t>(label)];
    Doubles dx(inner, 0.0);
    for (size_t i = 0; i < columns; ++i) {
      const bool word = i < kSizes[cluster];
      const size_t j = word ? i : i - kSizes[cluster];
      Matrix<T>& w = word ? weight[cluster] : cluster_weight;
      const double share = loss_gradient[row] * (std::exp(logits[i]) - (static_cast<size_t>(label) == i ? 1 : 0));
      (word ? bias[cluster] : cluster_bias).gradient[j] += share;
      for (size_t k = 0; k < inner; ++k) {
        w.gradient[j * inner + k] += share * x[k];
        dx[k] += share * w.at(j, k);
      }
    }
    for (size_t d = 0; d < kModel; ++d) {
      for (size_t k = 0; k < inner; ++k) {
        projection[cluster].gradient[d * inner + k] += hidden.at(row, d) * dx[k];
        hidden.gradient[row * kModel + d] += dx[k] * (projected ? projection[cluster].at(d, k) : (d == k ? 1 : 0));
      }
    }
    return logits;
  }

  void evaluate() {
    for (size_t row = 0; row < kRows; ++row) {
      const int32_t label = kLabels[row];
      size_t first = 0, mine = 0, within = 0;
      for (size_t c = 0; c < kClusters; first += kSizes[c], ++c) {
        if (label >= static_cast<int32_t>(first)) mine = c, within = static_cast<size_t>(label) - first;
      }
      const bool counts = label != kIgnoredLabel;
      const Doubles head =
          log_softmax(row, 0, !counts ? -1 : static_cast<int64_t>(mine == 0 ? within : tail_column(mine)));
      double* out = log_probabilities.data() + row * kVocabulary;
      out = std::copy(head.begin(), head.begin() + kSizes[0], out);
      for (size_t c = 1; c < kClusters; ++c) {
        for (const double value : log_softmax(row, c, counts && mine == c ? static_cast<int64_t>(within) : -1)) {
          *out++ = value + head[tail_column(c)];
        }
      }
    }
  }
};

template <typename T>
struct Block {
  explicit Block(Problem<T>& problem, DeviceArray<int32_t>& labels)
      : bytes(sizeof(AdaptiveSoftmaxParams) + kClusters * sizeof(SoftmaxCluster)) {
    AdaptiveSoftmaxParams& params = *get();
    params.dtype = Format<T>::kType;
    params.rows = kRows;
    params.d_model = kModel;
    params.reversed_clusters = problem.reversed;
    params.hidden = problem.hidden.device->data();
    params.labels = labels.data();
    params.cluster_weight = problem.cluster_weight.device->data();
    params.cluster_bias = problem.cluster_bias.device->data();
    params.hidden_gradient = problem.hidden.device_gradient->data();
    params.cluster_weight_gradient = problem.cluster_weight.device_gradient->data();
    params.cluster_bias_gradient = problem.cluster_bias.device_gradient->data();
    params.cluster_count = kClusters;
    int64_t first = 0;
    for (size_t c = 0; c < kClusters; ++c) {
      const auto size = static_cast<int64_t>(kSizes[c]);
      params.clusters[c] = {first,
                            size,
                            static_cast<int64_t>(problem.width(c)),
                            problem.weight[c].device->data(),
                            problem.bias[c].device->data(),
                            problem.projected ? problem.projection[c].device->data() : nullptr,
                            problem.weight[c].device_gradient->data(),
                            problem.bias[c].device_gradient->data(),
                            problem.projected ? problem.projection[c].device_gradient->data() : nullptr};
      first += size;
    }
  }

  AdaptiveSoftmaxParams* get() { return reinterpret_cast<AdaptiveSoftmaxParams*>(bytes.data()); }

  std::vector<unsigned char> bytes;
};

template <typename T>
void expect_gradient(const char* name, const Matrix<T>& matrix, double tolerance) {
  for (size_t i = 0; i < matrix.gradient.size(); ++i) {
    expect_near(name, i, cuda::to_float((*matrix.device_gradient)[i]), matrix.gradient[i], tolerance);
  }
}

template <typename T>
void check(bool projected, bool reversed) {
  Problem<T> problem(projected, reversed);
  DeviceArray<int32_t> labels(kLabels);
  DeviceArray<float> loss_gradient(problem.loss_gradient);
  labels.read_only();
  // A logit is rounded when stored, as are the (projected) states it is made of; two softmaxes make a loss of two
  // logits each. Values and weights are at most 1, states at most kModel.
  const double unit = Format<T>::kUnit / 2, logit_error = 2 * unit * (problem.largest_logit + kModel);
  const double share_error = 2 * logit_error + 2 * unit;
  for (const Cut& cut : kCuts) {
    const cuda::ChunkLimits limits = {cut.logits * static_cast<int64_t>(sizeof(T)), cut.most_rows, cut.fewest_rows};
    under_all_schedules([&] {
      OperatorRunner runner;
      DeviceArray<float> loss(kRows);
      DeviceArray<T> log_probabilities(kRows * kVocabulary);
      for (auto* matrices : {&problem.weight, &problem.bias, &problem.projection}) {
        for (Matrix<T>& matrix : *matrices) matrix.renew();
      }
      for (Matrix<T>* matrix : {&problem.hidden, &problem.cluster_weight, &problem.cluster_bias}) matrix->renew();
      Block<T> block(problem, labels);
      AdaptiveSoftmaxParams& params = *block.get();
      params.loss = loss.data();
      params.log_probabilities = log_probabilities.data();
      params.loss_gradient = loss_gradient.data();
      expect_ok(runner.run([&](const cuda::Context& context) {
        return cuda::adaptive_softmax_loss_in_chunks(context, params, limits);
      }));
      expect_ok(runner.run(
          [&](const cuda::Context& context) { return cuda::adaptive_log_softmax_in_chunks(context, params, limits); }));
      expect_ok(runner.run([&](const cuda::Context& context) {
        return cuda::adaptive_softmax_loss_gradient_in_chunks(context, params, limits);
      }));
      EXPECT_EQUAL(runner.error().claimed, 0u);
      for (size_t row = 0; row < kRows; ++row) {
        expect_near("loss", row, loss[row], problem.loss[row], kLabels[row] == kIgnoredLabel ? 0 : 4 * logit_error);
      }
      for (size_t i = 0; i < log_probabilities.size(); ++i) {
        const double wanted = problem.log_probabilities[i];
        expect_near("log_probabilities", i, cuda::to_float(log_probabilities[i]), wanted,
                    4 * logit_error + unit * std::fabs(wanted));
      }
      // Sums of as many shares, and of products with numbers of up to kModel, rounded once per chunk and block at most.
      const double rows_error = kRows * kModel * share_error, columns_error = 2 * kVocabulary * share_error;
      expect_gradient("hidden_gradient", problem.hidden, kModel * columns_error);
      expect_gradient("cluster_weight_gradient", problem.cluster_weight, rows_error);
      expect_gradient("cluster_bias_gradient", problem.cluster_bias, rows_error);
      for (size_t c = 0; c < kClusters; ++c) {
        expect_gradient("weight_gradient", problem.weight[c], rows_error);
        expect_gradient("bias_gradient", problem.bias[c], rows_error);
        if (projected) expect_gradient("projection_gradient", problem.projection[c], kRows * columns_error);
      }
    });
  }
}

}  // namespace

TEST(adaptive_softmax_fp32) {
  check<float>(true, false);
  check<float>(false, true);
}
TEST(adaptive_softmax_bf16) {
  check<__nv_bfloat16>(true, true);
  check<__nv_bfloat16>(false, false);
}
TEST(adaptive_softmax_fp16) { check<__half>(true, false); }

TEST(adaptive_softmax_says_which_label_is_wrong) {
  Problem<float> problem(true, false);
  std::vector<int32_t> bad = kLabels;
  bad[4] = static_cast<int32_t>(kVocabulary);
  bad[9] = -7;
  DeviceArray<int32_t> labels(bad);
  DeviceArray<float> loss(kRows), loss_gradient(problem.loss_gradient);
  Block<float> block(problem, labels);
  AdaptiveSoftmaxParams& params = *block.get();
  params.loss = loss.data();
  params.loss_gradient = loss_gradient.data();
  OperatorRunner runner;
  for (const auto operation : {cuda::adaptive_softmax_loss, cuda::adaptive_softmax_loss_gradient}) {
    expect_ok(runner.run([&](const cuda::Context& context) { return operation(context, &params); }));
    EXPECT(runner.error().kind == cuda::DataErrorKind::label);
    EXPECT_EQUAL(runner.error().index, 4);
    EXPECT_EQUAL(runner.error().value, static_cast<int64_t>(kVocabulary));
    EXPECT_EQUAL(runner.error().high, static_cast<int64_t>(kVocabulary));
  }
  EXPECT_EQUAL(loss[4], 0.0f);
  EXPECT_EQUAL(loss[9], 0.0f);
  for (size_t d = 0; d < kModel; ++d) EXPECT_EQUAL((*problem.hidden.device_gradient)[4 * kModel + d], 0.0f);
}

TEST(adaptive_softmax_without_rows_clears_the_gradients_of_weights) {
  Problem<float> problem(true, false);
  DeviceArray<int32_t> labels(kLabels);
  Block<float> block(problem, labels);
  block.get()->rows = 0;
  OperatorRunner runner;
  expect_ok(runner.run(
      [&](const cuda::Context& context) { return cuda::adaptive_softmax_loss_gradient(context, block.get()); }));
  expect_ok(
      runner.run([&](const cuda::Context& context) { return cuda::adaptive_softmax_loss(context, block.get()); }));
  expect_ok(runner.run([&](const cuda::Context& context) { return cuda::adaptive_log_softmax(context, block.get()); }));
  for (const auto* matrices : {&problem.weight, &problem.bias, &problem.projection}) {
    for (const Matrix<float>& matrix : *matrices) {
      for (const float value : matrix.device_gradient->values()) EXPECT_EQUAL(value, 0.0f);
    }
  }
  for (const float value : problem.cluster_weight.device_gradient->values()) EXPECT_EQUAL(value, 0.0f);
  for (const float value : problem.cluster_bias.device_gradient->values()) EXPECT_EQUAL(value, 0.0f);
}
