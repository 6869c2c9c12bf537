#include "cuda/permutation_reference.h"

#include <algorithm>
#include <random>

#include "core/philox.h"
#include "cuda/relative_reference.h"

namespace permutation_test {
namespace {

// Whether the query that stands at p sees key j.
bool sees(const Shape& s, const Operands& o, bool query, int b, int p, int j) {
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

}  // namespace

Operands make_operands(const Shape& s, uint32_t seed, double (*round)(double)) {
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
  for (int q = 0; q < 2; ++q) {
    if (s.stands_anywhere(q == 1)) o.positions[q] = draw(static_cast<size_t>(s.batch) * s.rows(q == 1), -1, s.length - 1);
  }
  if (s.segments) o.segments = draw(places, 0, 2);
  if (s.ranks) {
    o.query_ranks = draw(places, 0, s.length), o.key_ranks = draw(places, 0, s.length);
    // The first row of each sequence is below all keys: without a memory, the query stream sees nothing from there.
    for (int b = 0; b < s.batch; ++b) o.query_ranks[b * s.length] = 0;
    if (s.positions) {
      for (int b = 0; b < s.batch; ++b) o.positions[1][b * s.queries + s.queries / 2] = 0;
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

Results reference(const Shape& s, const Operands& o, uint64_t seed, const uint64_t (&offsets)[2]) {
  const int d = s.head_dim, width = s.width(), keys = s.keys();
  Results r;
  r.key.assign(o.key.size(), 0), r.value = r.key;
  r.position.assign(o.position.size(), 0);
  r.content_bias.assign(width, 0), r.position_bias = r.content_bias, r.segment_bias = r.content_bias;
  r.segment_embedding.assign(2 * width, 0);
  const uint32_t threshold = xlformers::dropout_threshold(s.dropout);
  std::vector<double> kept(keys), probability_gradient(keys);
  for (int q = 0; q < 2; ++q) {
    Stream& stream = r.stream[q];
    const size_t statistics = static_cast<size_t>(s.batch) * s.heads * s.rows(q == 1);
    stream.out.assign(o.query[q].size(), 0), stream.query = stream.out;
    stream.log_sum_exp.assign(statistics, 0);
    for (auto* each : {&stream.scores, &stream.softmax, &stream.probabilities, &stream.score_gradient}) each->assign(statistics * keys, 0);
    const xlformers::PhiloxStream random{seed, offsets[q]};
    for_each_row(s, o, q == 1, [&](const Row& row) {
      const double head_scale = o.head_scale[row.head];
      const double* const query = o.query[q].data() + row.first;
      const double* const out_gradient = o.out_gradient[q].data() + row.first;
      const double* const u = o.content_bias.data() + row.column(0);
      const double* const v = o.position_bias.data() + row.column(0);
      const double* const t = o.segment_bias.data() + row.column(0);
      double* const scores = stream.scores.data() + row.pair(0);
      double* const p = stream.softmax.data() + row.pair(0);
      double top = -1e30, sum = 0;
      for (int j = 0; j < keys; ++j) {
        scores[j] = -1e30;
        if (!sees(s, o, q == 1, row.batch, row.place, j)) continue;
        double score = 0;
        for (int c = 0; c < d; ++c) {
          score += (query[c] + u[c]) * o.key[row.key(j) + c];
          score += (query[c] + v[c]) * row.position_value(j, c);
          score += (query[c] + t[c]) * row.embedding_value(j, c);
        }
        scores[j] = score * s.scale();
        top = std::max(top, scores[j]);
      }
      for (int j = 0; j < keys; ++j) sum += p[j] = std::exp(scores[j] - top);
      stream.log_sum_exp[row.item] = top + std::log(sum);
      double delta = 0;
      for (int j = 0; j < keys; ++j) {
        p[j] /= sum;
        const auto block =
            random.block(static_cast<uint32_t>(j) >> 3, static_cast<uint32_t>(row.n), static_cast<uint32_t>(row.batch * s.heads + row.head));
        kept[j] = xlformers::philox_lane16(block, j & 7) >= threshold ? 1 / (1 - s.dropout) : 0;
        const double probability = head_scale * p[j] * kept[j];
        stream.probabilities[row.pair(j)] = probability;
        probability_gradient[j] = 0;
        for (int c = 0; c < d; ++c) {
          stream.out[row.first + c] += probability * o.value[row.key(j) + c];
          r.value[row.key(j) + c] += probability * out_gradient[c];
          probability_gradient[j] += head_scale * kept[j] * out_gradient[c] * o.value[row.key(j) + c];
        }
        delta += p[j] * probability_gradient[j];
      }
      for (int j = 0; j < keys; ++j) {
        stream.score_gradient[row.pair(j)] = p[j] * (probability_gradient[j] - delta);
        const double ds = stream.score_gradient[row.pair(j)] * s.scale();
        for (int c = 0; c < d; ++c) {
          const double key = o.key[row.key(j) + c], position = row.position_value(j, c), embedding = row.embedding_value(j, c);
          stream.query[row.first + c] += ds * (key + position + embedding);
          r.key[row.key(j) + c] += ds * (query[c] + u[c]);
          if (row.position(j) >= 0) r.position[row.position(j) + c] += ds * (query[c] + v[c]);
          r.content_bias[row.column(c)] += ds * key;
          r.position_bias[row.column(c)] += ds * position;
          if (!s.segments) continue;
          r.segment_bias[row.column(c)] += ds * embedding;
          r.segment_embedding[row.embedding(j) + c] += ds * (query[c] + t[c]);
        }
      }
    });
  }
  return r;
}

}  // namespace permutation_test
