#include "cuda/relative_bounds.h"

#include <algorithm>
#include <cmath>

namespace relative_test {
namespace {

using attention_test::Error;
using attention_test::SumBounds;
using attention_test::summing;

// A query of one head: where its operands lie in the arrays.
struct Row {
  const Shape& s;
  const Operands& o;
  int batch, head, query;
  size_t item;   // of [batch, heads, queries]
  size_t first;  // its first element in query and out

  size_t pair(int j) const { return item * s.keys() + j; }
  size_t key(int j) const { return (static_cast<size_t>(batch) * s.keys() + j) * s.width() + column(0); }
  size_t position(int j) const { return static_cast<size_t>(s.memory + query - j - s.first_distance()) * s.width() + column(0); }
  int column(int c) const { return head * s.head_dim + c; }
  double content(int c) const { return std::fabs(o.query[first + c]) + std::fabs(o.content_bias[column(c)]); }
  double place(int c) const { return std::fabs(o.query[first + c]) + std::fabs(o.position_bias[column(c)]); }
};

template <typename Visit>
void for_each_row(const Shape& s, const Operands& o, const Visit& visit) {
  for (size_t item = 0; item < static_cast<size_t>(s.batch) * s.heads * s.queries; ++item) {
    const int i = static_cast<int>(item % s.queries), h = static_cast<int>(item / s.queries % s.heads);
    const int b = static_cast<int>(item / s.queries / s.heads);
    visit(Row{s, o, b, h, i, item, (static_cast<size_t>(b) * s.queries + i) * s.width() + h * s.head_dim});
  }
}

// Of P, relatively: its score is an fp32 sum of 2 head_dim products, and so is the exponent.
double probability_error(const Row& row, const Results& r, int j) {
  double magnitude = 0;
  for (int c = 0; c < row.s.head_dim; ++c) {
    magnitude += row.content(c) * std::fabs(row.o.key[row.key(j) + c]) + row.place(c) * std::fabs(row.o.position[row.position(j) + c]);
  }
  return summing(2 * row.s.head_dim) * magnitude * row.s.scale() +
         4 * 0x1p-24 * (std::fabs(r.scores[row.pair(j)]) + std::fabs(r.log_sum_exp[row.item]) + 2);
}

}  // namespace

ForwardBounds forward_bounds(const Shape& s, const Operands& o, const Results& r, Rounding rounding) {
  SumBounds out(r.out.size());
  ForwardBounds bounds;
  bounds.log_sum_exp.assign(r.log_sum_exp.size(), 0);
  for_each_row(s, o, [&](const Row& row) {
    Error total;  // of the sum that probabilities are divided by, relatively
    for (int j = 0; j < s.keys(); ++j) {
      const double p = r.softmax[row.pair(j)], kept = std::fabs(r.probabilities[row.pair(j)]);
      if (p == 0) continue;
      const double relative = probability_error(row, r, j);
      total.add(p * relative);
      if (kept == 0) continue;
      const double error = kept * relative + rounding.of(p) * kept / p;
      for (int c = 0; c < s.head_dim; ++c) {
        const double value = o.value[row.key(j) + c];
        out.add(row.first + c, kept * value, error * std::fabs(value));
      }
    }
    total.add(summing(s.keys()));
    for (int c = 0; c < s.head_dim; ++c) out.add(row.first + c, total, r.out[row.first + c]);
    bounds.log_sum_exp[row.item] = total.most() + 4 * 0x1p-24 * (std::fabs(r.log_sum_exp[row.item]) + 2);
  });
  bounds.out = out.bounds(r.out, s.keys(), rounding);
  return bounds;
}

std::vector<double> probability_bounds(const Shape& s, const Operands& o, const Results& r, Rounding rounding) {
  std::vector<double> bounds(r.probabilities.size());
  for_each_row(s, o, [&](const Row& row) {
    for (int j = 0; j < s.keys(); ++j) {
      const double kept = std::fabs(r.probabilities[row.pair(j)]);
      if (kept == 0) continue;
      const double error = kept * probability_error(row, r, j);
      bounds[row.pair(j)] = error + rounding.of(kept + error);
    }
  });
  return bounds;
}

GradientBounds gradient_bounds(const Shape& s, const Operands& o, const Results& r, Rounding rounding) {
  const int d = s.head_dim, width = s.width();
  SumBounds query(o.query.size()), key(o.key.size()), value(o.value.size()), position(o.position.size());
  SumBounds content_bias(width), position_bias(width);
  std::vector<double> keys(d), positions(d);  // averages over what the row sees
  for_each_row(s, o, [&](const Row& row) {
    Error delta;
    double magnitude = 0;
    for (int c = 0; c < d; ++c) {
      const double out = r.out[row.first + c], gradient = std::fabs(o.out_gradient[row.first + c]);
      delta.add(gradient * rounding.of(out));
      magnitude += gradient * std::fabs(out);
    }
    delta.add(summing(d) * magnitude);
    for (auto* each : {&keys, &positions}) std::fill(each->begin(), each->end(), 0);
    for (int j = 0; j < s.keys(); ++j) {
      const double p = r.softmax[row.pair(j)], kept = std::fabs(r.probabilities[row.pair(j)]);
      if (p == 0) continue;
      const double relative = probability_error(row, r, j);
      double gradient_magnitude = 0;
      for (int c = 0; c < d; ++c) gradient_magnitude += std::fabs(o.out_gradient[row.first + c] * o.value[row.key(j) + c]);
      const double ds = s.scale() * r.score_gradient[row.pair(j)];
      const double error =
          s.scale() * (rounding.of(r.score_gradient[row.pair(j)]) + summing(d) * kept * gradient_magnitude) + relative * std::fabs(ds);
      const double kept_error = rounding.of(kept) + relative * kept;
      for (int c = 0; c < d; ++c) {
        const double k = o.key[row.key(j) + c], x = o.position[row.position(j) + c];
        const double gradient = std::fabs(o.out_gradient[row.first + c]);
        keys[c] += p * k, positions[c] += p * x;
        const auto add = [&](SumBounds& to, size_t i, double of) { to.add(i, ds * of, error * of); };
        add(query, row.first + c, std::fabs(k) + std::fabs(x));
        add(content_bias, row.column(c), std::fabs(k));
        add(position_bias, row.column(c), std::fabs(x));
        add(key, row.key(j) + c, row.content(c));
        add(position, row.position(j) + c, row.place(c));
        key.add(row.key(j) + c, delta, s.scale() * p * row.content(c));
        position.add(row.position(j) + c, delta, s.scale() * p * row.place(c));
        value.add(row.key(j) + c, kept * gradient, kept_error * gradient);
      }
    }
    // dS changes by -P (error of D), the same for all keys of the row.
    for (int c = 0; c < d; ++c) {
      query.add(row.first + c, delta, s.scale() * (keys[c] + positions[c]));
      content_bias.add(row.column(c), delta, s.scale() * keys[c]);
      position_bias.add(row.column(c), delta, s.scale() * positions[c]);
    }
  });
  const double all = static_cast<double>(s.batch) * (s.queries + s.keys());
  GradientBounds bounds;
  bounds.query = query.bounds(r.query, 2 * s.keys(), rounding);
  bounds.key = key.bounds(r.key, s.queries, rounding), bounds.value = value.bounds(r.value, s.queries, rounding);
  bounds.position = position.bounds(r.position, s.batch * s.queries, rounding);
  bounds.content_bias = content_bias.bounds(r.content_bias, all, rounding);
  bounds.position_bias = position_bias.bounds(r.position_bias, all, rounding);
  return bounds;
}

}  // namespace relative_test
