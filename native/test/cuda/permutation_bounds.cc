#include "cuda/permutation_bounds.h"

#include <algorithm>
#include <cmath>

namespace permutation_test {
namespace {

using attention_test::Error;
using attention_test::SumBounds;
using attention_test::summing;

// Of P, relatively: its score is an fp32 sum of 3 head_dim products, and so is the exponent. Rows that see nothing have
// no score.
double probability_error(const Row& row, const Stream& stream, bool query, int j) {
  const double score = stream.scores[row.pair(j)];
  if (score < kBlind) return summing(row.s.keys());
  double magnitude = 0;
  for (int c = 0; c < row.s.head_dim; ++c) {
    const double q = std::fabs(row.o.query[query ? 1 : 0][row.first + c]);
    magnitude += (q + std::fabs(row.o.content_bias[row.column(c)])) * std::fabs(row.o.key[row.key(j) + c]);
    magnitude += (q + std::fabs(row.o.position_bias[row.column(c)])) * std::fabs(row.position_value(j, c));
    magnitude += (q + std::fabs(row.o.segment_bias[row.column(c)])) * std::fabs(row.embedding_value(j, c));
  }
  return summing(3 * row.s.head_dim) * magnitude * row.s.scale() +
         4 * 0x1p-24 * (std::fabs(score) + std::fabs(stream.log_sum_exp[row.item]) + 2);
}

}  // namespace

ForwardBounds forward_bounds(const Shape& s, const Operands& o, const Results& r, bool query, Rounding rounding) {
  const Stream& stream = r.stream[query ? 1 : 0];
  SumBounds out(stream.out.size());
  ForwardBounds bounds;
  bounds.log_sum_exp.assign(stream.log_sum_exp.size(), 0);
  for_each_row(s, o, query, [&](const Row& row) {
    Error total;  // of the sum that probabilities are divided by, relatively
    for (int j = 0; j < s.keys(); ++j) {
      const double p = stream.softmax[row.pair(j)], kept = stream.probabilities[row.pair(j)];
      if (p == 0) continue;
      const double relative = probability_error(row, stream, query, j);
      total.add(p * relative);
      if (kept == 0) continue;
      const double error = std::fabs(kept) * relative + rounding.of(p) * std::fabs(kept) / p;
      for (int c = 0; c < s.head_dim; ++c) {
        const double value = o.value[row.key(j) + c];
        out.add(row.first + c, kept * value, error * std::fabs(value));
      }
    }
    total.add(summing(s.keys()));
    for (int c = 0; c < s.head_dim; ++c) out.add(row.first + c, total, stream.out[row.first + c]);
    bounds.log_sum_exp[row.item] = total.most() + 4 * 0x1p-24 * (std::fabs(stream.log_sum_exp[row.item]) + 2);
  });
  bounds.out = out.bounds(stream.out, s.keys(), rounding);
  return bounds;
}

std::vector<double> probability_bounds(const Shape& s, const Operands& o, const Results& r, bool query, Rounding rounding) {
  const Stream& stream = r.stream[query ? 1 : 0];
  std::vector<double> bounds(stream.probabilities.size());
  for_each_row(s, o, query, [&](const Row& row) {
    for (int j = 0; j < s.keys(); ++j) {
      const double kept = std::fabs(stream.probabilities[row.pair(j)]);
      if (kept == 0) continue;
      const double error = kept * probability_error(row, stream, query, j);
      bounds[row.pair(j)] = error + rounding.of(kept + error);
    }
  });
  return bounds;
}

GradientBounds gradient_bounds(const Shape& s, const Operands& o, const Results& r, Rounding rounding) {
  const int d = s.head_dim, width = s.width();
  SumBounds queries[2] = {SumBounds(o.query[0].size()), SumBounds(o.query[1].size())};
  SumBounds key(o.key.size()), value(o.value.size()), position(o.position.size());
  SumBounds content_bias(width), position_bias(width), segment_bias(width), segment_embedding(2 * width);
  std::vector<double> keys(d), positions(d), embeddings(d);  // averages over what the row sees
  for (int q = 0; q < 2; ++q) {
    const Stream& stream = r.stream[q];
    for_each_row(s, o, q == 1, [&](const Row& row) {
      const auto bias = [&](const std::vector<double>& of, int c) { return std::fabs(of[row.column(c)]); };
      Error delta;
      double magnitude = 0;
      for (int c = 0; c < d; ++c) {
        const double out = stream.out[row.first + c], gradient = std::fabs(o.out_gradient[q][row.first + c]);
        delta.add(gradient * rounding.of(out));
        magnitude += gradient * std::fabs(out);
      }
      delta.add(summing(d) * magnitude);
      for (auto* each : {&keys, &positions, &embeddings}) std::fill(each->begin(), each->end(), 0);
      double parts[2] = {0, 0};  // of the two segments
      for (int j = 0; j < s.keys(); ++j) {
        const double p = stream.softmax[row.pair(j)], kept = stream.probabilities[row.pair(j)];
        if (p == 0) continue;
        const double relative = probability_error(row, stream, q == 1, j);
        double gradient_magnitude = 0;
        for (int c = 0; c < d; ++c) gradient_magnitude += std::fabs(o.out_gradient[q][row.first + c] * o.value[row.key(j) + c]);
        const double ds = s.scale() * stream.score_gradient[row.pair(j)];
        const double error =
            s.scale() * (rounding.of(stream.score_gradient[row.pair(j)]) + summing(d) * std::fabs(kept) * gradient_magnitude) +
            relative * std::fabs(ds);
        const double kept_error = rounding.of(kept) + relative * std::fabs(kept);
        const size_t segment = s.segments ? row.embedding(j) : 0;
        if (s.segments) parts[segment >= static_cast<size_t>(width) ? 1 : 0] += p;
        for (int c = 0; c < d; ++c) {
          const double k = o.key[row.key(j) + c], x = row.position_value(j, c), e = row.embedding_value(j, c);
          const double query = std::fabs(o.query[q][row.first + c]), gradient = std::fabs(o.out_gradient[q][row.first + c]);
          keys[c] += p * k, positions[c] += p * x, embeddings[c] += p * e;
          const auto add = [&](SumBounds& to, size_t i, double of) { to.add(i, ds * of, error * of); };
          add(queries[q], row.first + c, std::fabs(k) + std::fabs(x) + std::fabs(e));
          add(content_bias, row.column(c), std::fabs(k));
          add(position_bias, row.column(c), std::fabs(x));
          add(key, row.key(j) + c, query + bias(o.content_bias, c));
          key.add(row.key(j) + c, delta, s.scale() * p * (query + bias(o.content_bias, c)));
          value.add(row.key(j) + c, kept * gradient, kept_error * gradient);
          if (row.position(j) >= 0) {
            add(position, row.position(j) + c, query + bias(o.position_bias, c));
            position.add(row.position(j) + c, delta, s.scale() * p * (query + bias(o.position_bias, c)));
          }
          if (!s.segments) continue;
          add(segment_bias, row.column(c), std::fabs(e));
          add(segment_embedding, segment + c, query + bias(o.segment_bias, c));
        }
      }
      // dS changes by -P (error of D), the same for all keys of the row.
      for (int c = 0; c < d; ++c) {
        queries[q].add(row.first + c, delta, s.scale() * (keys[c] + positions[c] + embeddings[c]));
        content_bias.add(row.column(c), delta, s.scale() * keys[c]);
        position_bias.add(row.column(c), delta, s.scale() * positions[c]);
        segment_bias.add(row.column(c), delta, s.scale() * embeddings[c]);
        const double query = std::fabs(o.query[q][row.first + c]) + bias(o.segment_bias, c);
        for (int w = 0; w < 2; ++w) segment_embedding.add(w * width + row.column(c), delta, s.scale() * parts[w] * query);
      }
    });
  }
  const double rows = s.rows(false) + s.rows(true), all = s.batch * (rows + s.keys());
  GradientBounds bounds;
  for (int q = 0; q < 2; ++q) bounds.query[q] = queries[q].bounds(r.stream[q].query, 3 * s.keys(), rounding);
  bounds.key = key.bounds(r.key, rows, rounding), bounds.value = value.bounds(r.value, rows, rounding);
  bounds.position = position.bounds(r.position, s.batch * rows, rounding);
  bounds.content_bias = content_bias.bounds(r.content_bias, all, rounding);
  bounds.position_bias = position_bias.bounds(r.position_bias, all, rounding);
  bounds.segment_bias = segment_bias.bounds(r.segment_bias, all, rounding);
  bounds.segment_embedding = segment_embedding.bounds(r.segment_embedding, all, rounding);
  return bounds;
}

}  // namespace permutation_test
