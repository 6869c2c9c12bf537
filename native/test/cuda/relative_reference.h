// Relative attention and its gradients written out in double precision (Dai et al. 2019, section 3.3), for tests.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "core/philox.h"

namespace relative_test {

struct Shape {
  int batch, heads, head_dim, queries, memory;
  int upper = 0, lower = -1000, segment = 1;
  bool biases = true, head_scale = false;
  std::vector<int32_t> starts = {};
  double dropout = 0;
  int current = -1;  // keys behind the memory; -1: as many as queries

  int current_length() const { return current < 0 ? queries : current; }
  int keys() const { return memory + current_length(); }
  int first_distance() const { return std::min(0, memory - keys() + 1); }
  int positions() const { return memory + queries - first_distance(); }
  double scale() const { return 1 / std::sqrt(static_cast<double>(head_dim)); }
  int width() const { return heads * head_dim; }
};

// Arrays [batch, rows, heads, head_dim], contiguous.
struct Operands {
  std::vector<double> query, key, value, position, content_bias, position_bias, head_scale, out_gradient;
};

struct Results {
  std::vector<double> out, log_sum_exp;
  std::vector<double> probabilities;                                             // [batch, heads, queries, keys], after dropout
  std::vector<double> scores, softmax, score_gradient;                           // the same; dS, but for the scale
  std::vector<double> query, key, value, position, content_bias, position_bias;  // gradients
};

inline std::vector<double> normals(size_t count, uint32_t seed, double size, double (*round)(double)) {
  std::mt19937 engine(seed);
  std::normal_distribution<double> normal(0, size);
  std::vector<double> values(count);
  for (double& value : values) value = round(normal(engine));
  return values;
}

inline Operands make_operands(const Shape& s, uint32_t seed, double (*round)(double)) {
  Operands o;
  const size_t width = static_cast<size_t>(s.width());
  o.query = normals(s.batch * s.queries * width, seed, 1, round);
  o.key = normals(s.batch * s.keys() * width, seed + 1, 1, round);
  o.value = normals(s.batch * s.keys() * width, seed + 2, 1, round);
  o.position = normals(s.positions() * width, seed + 3, 1, round);
  o.content_bias = normals(width, seed + 4, s.biases ? 1 : 0, round);
  o.position_bias = normals(width, seed + 5, s.biases ? 1 : 0, round);
  o.head_scale = normals(s.heads, seed + 6, 1, round);
  if (!s.head_scale) std::fill(o.head_scale.begin(), o.head_scale.end(), 1.0);
  o.out_gradient = normals(s.batch * s.queries * width, seed + 7, 1, round);
  return o;
}

inline Results reference(const Shape& s, const Operands& o, uint64_t seed, uint64_t offset) {
  const int d = s.head_dim, width = s.width(), keys = s.keys();
  Results r;
  r.out.assign(o.query.size(), 0), r.query = r.out;
  r.log_sum_exp.assign(static_cast<size_t>(s.batch) * s.heads * s.queries, 0);
  r.probabilities.assign(r.log_sum_exp.size() * keys, 0);
  r.scores = r.softmax = r.score_gradient = r.probabilities;
  r.key.assign(o.key.size(), 0), r.value = r.key;
  r.position.assign(o.position.size(), 0);
  r.content_bias.assign(width, 0), r.position_bias = r.content_bias;
  const xlformers::PhiloxStream stream{seed, offset};
  const uint32_t threshold = xlformers::dropout_threshold(s.dropout);
  for (int b = 0; b < s.batch; ++b) {
    for (int h = 0; h < s.heads; ++h) {
      const double head_scale = o.head_scale[h];
      const double* u = o.content_bias.data() + h * d;
      const double* v = o.position_bias.data() + h * d;
      for (int i = 0; i < s.queries; ++i) {
        const size_t row = (static_cast<size_t>(b) * s.queries + i) * width + h * d;
        const double* q = o.query.data() + row;
        const int begin = std::max(s.starts.empty() ? 0 : s.starts[b], i / s.segment * s.segment + s.lower);
        const int end = std::min(keys, s.memory + i + s.upper + 1);
        const size_t pairs = ((static_cast<size_t>(b) * s.heads + h) * s.queries + i) * keys;
        std::vector<double> p(keys), kept(keys), score_gradient(keys);
        const auto key_row = [&](int j) { return (static_cast<size_t>(b) * keys + j) * width + h * d; };
        const auto position_row = [&](int j) { return static_cast<size_t>(s.memory + i - j - s.first_distance()) * width + h * d; };
        double top = -HUGE_VAL, sum = 0;
        for (int j = begin; j < end; ++j) {
          const double* k = o.key.data() + key_row(j);
          const double* x = o.position.data() + position_row(j);
          double score = 0;
          for (int c = 0; c < d; ++c) score += (q[c] + u[c]) * k[c] + (q[c] + v[c]) * x[c];
          p[j] = r.scores[pairs + j] = score * s.scale();
          top = std::max(top, p[j]);
        }
        for (int j = begin; j < end; ++j) sum += p[j] = std::exp(p[j] - top);
        r.log_sum_exp[(static_cast<size_t>(b) * s.heads + h) * s.queries + i] = top + std::log(sum);
        double delta = 0;
        for (int j = begin; j < end; ++j) {
          r.softmax[pairs + j] = p[j] /= sum;
          const auto block = stream.block(static_cast<uint32_t>(j) >> 3, static_cast<uint32_t>(i), static_cast<uint32_t>(b * s.heads + h));
          kept[j] = xlformers::philox_lane16(block, j & 7) >= threshold ? 1 / (1 - s.dropout) : 0;
          r.probabilities[pairs + j] = head_scale * p[j] * kept[j];
          const double* value = o.value.data() + key_row(j);
          for (int c = 0; c < d; ++c) {
            r.out[row + c] += head_scale * p[j] * kept[j] * value[c];
            r.value[key_row(j) + c] += head_scale * p[j] * kept[j] * o.out_gradient[row + c];
            score_gradient[j] += head_scale * kept[j] * o.out_gradient[row + c] * value[c];
          }
          delta += p[j] * score_gradient[j];
        }
        for (int j = begin; j < end; ++j) {
          r.score_gradient[pairs + j] = p[j] * (score_gradient[j] - delta);
          const double ds = r.score_gradient[pairs + j] * s.scale();
          const size_t k = key_row(j), x = position_row(j);
          for (int c = 0; c < d; ++c) {
            r.query[row + c] += ds * (o.key[k + c] + o.position[x + c]);
            r.key[k + c] += ds * (q[c] + u[c]);
            r.position[x + c] += ds * (q[c] + v[c]);
            r.content_bias[h * d + c] += ds * o.key[k + c];
            r.position_bias[h * d + c] += ds * o.position[x + c];
          }
        }
      }
    }
  }
  return r;
}

}  // namespace relative_test
