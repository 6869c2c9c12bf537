// XLNet's attention and its gradients written out in double precision (Yang et al. 2019, sections 2.3 and 2.5), for tests.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "core/philox.h"
#include "cuda/relative_reference.h"

namespace permutation_test {

enum class Mask { none, shared, by_batch };

struct Shape {
  int batch, heads, head_dim, length, memory;  // length: of the current rows
  int content = -1;                            // rows of the content stream; -1: length
  int queries = 0;                             // of the query stream
  bool positions = false;                      // rows of the query stream stand anywhere, some nowhere; else at 0, 1, ...
  bool segments = false, ranks = false, padding = false, biases = true, head_scale = false;
  int gap_begin = 0, gap_end = 0;  // current keys that are padding, too, where there is any
  Mask mask = Mask::none;
  bool starts = false;
  int reversed_from = 1000;
  int upper = 1000, lower = -1000, segment = 1;
  bool near = false;  // r begins at distance 0
  double dropout = 0;

  int rows(bool query) const { return query ? queries : content < 0 ? length : content; }
  int keys() const { return memory + length; }
  int first_distance() const { return near ? 0 : -keys(); }
  int position_rows() const { return keys() + 1 - first_distance(); }
  double scale() const { return 1 / std::sqrt(static_cast<double>(head_dim)); }
  int width() const { return heads * head_dim; }
};

// Arrays [batch, rows, heads, head_dim], contiguous. Pairs: of the content stream and the query stream.
struct Operands {
  std::vector<double> query[2], out_gradient[2];
  std::vector<double> key, value, position, content_bias, position_bias, segment_bias, segment_embedding, head_scale;
  std::vector<int32_t> positions, segments, query_ranks, key_ranks, starts;
  std::vector<uint8_t> mask, padding;
};

struct Stream {
  std::vector<double> out, log_sum_exp;
  std::vector<double> probabilities;  // [batch, heads, rows, keys]
  std::vector<double> query;          // gradient
};

struct Results {
  Stream stream[2];
  std::vector<double> key, value, position, content_bias, position_bias, segment_bias, segment_embedding;  // gradients
};

inline Operands make_operands(const Shape& s, uint32_t seed, double (*round)(double)) {
  Operands o;
  const size_t width = static_cast<size_t>(s.width()), places = static_cast<size_t>(s.batch) * s.length;
  const auto normals = [&](size_t rows, double size = 1) { return relative_test::normals(rows * width, ++seed, size, round); };
  for (int q = 0; q < 2; ++q) {
    o.query[q] = normals(static_cast<size_t>(s.batch) * s.rows(q == 1));
    o.out_gradient[q] = normals(static_cast<size_t>(s.batch) * s.rows(q == 1));
  }
  o.key = normals(static_cast<size_t>(s.batch) * s.keys());
  o.value = normals(static_cast<size_t>(s.batch) * s.keys());
  o.position = normals(s.position_rows());
  o.content_bias = normals(1, s.biases), o.position_bias = normals(1, s.biases), o.segment_bias = normals(1, s.biases);
  o.segment_embedding = normals(2);
  o.head_scale = s.head_scale ? relative_test::normals(s.heads, ++seed, 1, round) : std::vector<double>(s.heads, 1);
  std::mt19937 engine(seed);
  const auto draw = [&](size_t count, int least, int most) {
    std::vector<int32_t> values(count);
    for (int32_t& value : values) value = least + static_cast<int>(engine() % static_cast<unsigned>(most - least + 1));
    return values;
  };
  if (s.positions) o.positions = draw(static_cast<size_t>(s.batch) * s.queries, -1, s.length - 1);
  if (s.segments) o.segments = draw(places, 0, 2);
  if (s.ranks) {
    o.query_ranks = draw(places, 0, s.length), o.key_ranks = draw(places, 0, s.length);
    // The first row of each sequence is below all keys: without a memory, the query stream sees nothing from there.
    for (int b = 0; b < s.batch; ++b) o.query_ranks[b * s.length] = 0;
    if (s.positions) {
      for (int b = 0; b < s.batch; ++b) o.positions[b * s.queries + s.queries / 2] = 0;
    }
  }
  if (s.starts) o.starts = draw(s.batch, 0, s.memory);
  if (s.mask != Mask::none) {
    for (const int32_t value : draw((s.mask == Mask::shared ? 1 : s.batch) * static_cast<size_t>(s.length) * s.length, 0, 2)) {
      o.mask.push_back(value == 2);
    }
  }
  if (s.padding) {
    for (const int32_t value : draw(places, 0, 4)) {
      const int key = static_cast<int>(o.padding.size()) % s.length;
      o.padding.push_back(value == 4 || (key >= s.gap_begin && key < s.gap_end));
    }
  }
  return o;
}

// Whether the query that stands at p sees key j.
inline bool sees(const Shape& s, const Operands& o, bool query, int b, int p, int j) {
  const int current = j - s.memory;
  if (!query && current == p) return true;
  if (j < p / s.segment * s.segment + s.lower || j > s.memory + p + s.upper) return false;
  if (current < 0) return o.starts.empty() || j >= o.starts[b];
  const int at = b * s.length + current;
  if (!o.padding.empty() && o.padding[at] != 0) return false;
  if (!o.key_ranks.empty() && o.key_ranks[at] >= o.query_ranks[b * s.length + p]) return false;
  if (o.mask.empty()) return true;
  return o.mask[(static_cast<size_t>(s.mask == Mask::shared ? 0 : b) * s.length + p) * s.length + current] == 0;
}

inline Results reference(const Shape& s, const Operands& o, uint64_t seed, const uint64_t (&offsets)[2]) {
  const int d = s.head_dim, width = s.width(), keys = s.keys();
  Results r;
  r.key.assign(o.key.size(), 0), r.value = r.key;
  r.position.assign(o.position.size(), 0);
  r.content_bias.assign(width, 0), r.position_bias = r.content_bias, r.segment_bias = r.content_bias;
  r.segment_embedding.assign(2 * width, 0);
  const uint32_t threshold = xlformers::dropout_threshold(s.dropout);
  const std::vector<double> zeros(d);
  std::vector<double> p(keys), kept(keys), score_gradient(keys);
  for (int q = 0; q < 2; ++q) {
    Stream& stream = r.stream[q];
    const int rows = s.rows(q == 1);
    const size_t statistics = static_cast<size_t>(s.batch) * s.heads * rows;
    stream.out.assign(o.query[q].size(), 0), stream.query = stream.out;
    stream.log_sum_exp.assign(statistics, 0);
    stream.probabilities.assign(statistics * keys, 0);
    const xlformers::PhiloxStream random{seed, offsets[q]};
    for (size_t item = 0; item < statistics; ++item) {
      const int n = static_cast<int>(item % rows), h = static_cast<int>(item / rows % s.heads);
      const int b = static_cast<int>(item / rows / s.heads);
      const int place = q == 1 && s.positions ? o.positions[b * rows + n] : n;
      if (place < 0) continue;
      const double head_scale = o.head_scale[h];
      const size_t row = (static_cast<size_t>(b) * rows + n) * width + h * d;
      const double* const query = o.query[q].data() + row;
      const double* const out_gradient = o.out_gradient[q].data() + row;
      const auto key_at = [&](int j) { return (static_cast<size_t>(b) * keys + j) * width + h * d; };
      // Row of r, -1 where r has none.
      const auto position_at = [&](int j) {
        const int at = (s.memory + place - j) * (b >= s.reversed_from ? -1 : 1) - s.first_distance();
        return at < 0 || at >= s.position_rows() ? int64_t{-1} : static_cast<int64_t>(at) * width + h * d;
      };
      const auto position_of = [&](int j) { return position_at(j) < 0 ? zeros.data() : o.position.data() + position_at(j); };
      const auto embedding_at = [&](int j) {
        const int segment = j < s.memory ? 0 : o.segments[b * s.length + j - s.memory];
        return (segment != o.segments[b * s.length + place] ? width : 0) + h * d;
      };
      double top = -1e30, sum = 0;
      for (int j = 0; j < keys; ++j) {
        p[j] = -1e30;
        if (!sees(s, o, q == 1, b, place, j)) continue;
        double score = 0;
        for (int c = 0; c < d; ++c) {
          score += (query[c] + o.content_bias[h * d + c]) * o.key[key_at(j) + c];
          score += (query[c] + o.position_bias[h * d + c]) * position_of(j)[c];
          if (s.segments) score += (query[c] + o.segment_bias[h * d + c]) * o.segment_embedding[embedding_at(j) + c];
        }
        p[j] = score * s.scale();
        top = std::max(top, p[j]);
      }
      for (int j = 0; j < keys; ++j) sum += p[j] = std::exp(p[j] - top);
      stream.log_sum_exp[item] = top + std::log(sum);
      double delta = 0;
      for (int j = 0; j < keys; ++j) {
        p[j] /= sum;
        const auto block = random.block(static_cast<uint32_t>(j) >> 3, static_cast<uint32_t>(n), static_cast<uint32_t>(b * s.heads + h));
        kept[j] = xlformers::philox_lane16(block, j & 7) >= threshold ? 1 / (1 - s.dropout) : 0;
        stream.probabilities[item * keys + j] = head_scale * p[j] * kept[j];
        score_gradient[j] = 0;
        for (int c = 0; c < d; ++c) {
          stream.out[row + c] += head_scale * p[j] * kept[j] * o.value[key_at(j) + c];
          r.value[key_at(j) + c] += head_scale * p[j] * kept[j] * out_gradient[c];
          score_gradient[j] += head_scale * kept[j] * out_gradient[c] * o.value[key_at(j) + c];
        }
        delta += p[j] * score_gradient[j];
      }
      for (int j = 0; j < keys; ++j) {
        const double ds = p[j] * (score_gradient[j] - delta) * s.scale();
        for (int c = 0; c < d; ++c) {
          const int column = h * d + c;
          stream.query[row + c] += ds * (o.key[key_at(j) + c] + position_of(j)[c]);
          r.key[key_at(j) + c] += ds * (query[c] + o.content_bias[column]);
          if (position_at(j) >= 0) r.position[position_at(j) + c] += ds * (query[c] + o.position_bias[column]);
          r.content_bias[column] += ds * o.key[key_at(j) + c];
          r.position_bias[column] += ds * position_of(j)[c];
          if (!s.segments) continue;
          const double embedding = o.segment_embedding[embedding_at(j) + c];
          stream.query[row + c] += ds * embedding;
          r.segment_bias[column] += ds * embedding;
          r.segment_embedding[embedding_at(j) + c] += ds * (query[c] + o.segment_bias[column]);
        }
      }
    }
  }
  return r;
}

}  // namespace permutation_test
