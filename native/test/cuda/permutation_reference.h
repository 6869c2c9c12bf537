// XLNet's attention and its gradients written out in double precision (Yang et al. 2019, sections 2.3 and 2.5), for tests.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

namespace permutation_test {

enum class Mask { none, shared, by_batch };

struct Shape {
  int batch, heads, head_dim, length, memory;  // length: of the current rows
  int content = -1;                            // rows of the content stream; -1: length
  int queries = 0;                             // of the query stream
  bool positions = false;                      // rows of the query stream stand anywhere, some nowhere; else at 0, 1, ...
  bool content_positions = false;              // likewise the rows of the content stream
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
  bool stands_anywhere(bool query) const { return query ? positions : content_positions; }
};

// Arrays [batch, rows, heads, head_dim], contiguous. Pairs: of the content stream and the query stream.
struct Operands {
  std::vector<double> query[2], out_gradient[2];
  std::vector<double> key, value, position, content_bias, position_bias, segment_bias, segment_embedding, head_scale;
  std::vector<int32_t> positions[2], segments, query_ranks, key_ranks, starts;
  std::vector<uint8_t> mask, padding;
};

struct Stream {
  std::vector<double> out, log_sum_exp;
  // [batch, heads, rows, keys]: scores, softmax(scores), head_scale dropout(softmax(scores)), and the gradient of the scores before the
  // scale; 0 for rows that stand nowhere.
  std::vector<double> scores, softmax, probabilities, score_gradient;
  std::vector<double> query;  // gradient
};

struct Results {
  Stream stream[2];
  std::vector<double> key, value, position, content_bias, position_bias, segment_bias, segment_embedding;  // gradients
};

// Standard normal numbers, each made one of a type's by `round`.
Operands make_operands(const Shape& s, uint32_t seed, double (*round)(double));

Results reference(const Shape& s, const Operands& o, uint64_t seed, const uint64_t (&offsets)[2]);

// A row of a stream, one head of it: where its operands lie in the arrays, and what it meets at key j.
struct Row {
  const Shape& s;
  const Operands& o;
  int batch, head;
  int n, place;  // row of the stream, and where it stands; -1: nowhere
  size_t item;   // of [batch, heads, rows]
  size_t first;  // its first element in query and out

  size_t pair(int j) const { return item * s.keys() + j; }
  size_t key(int j) const { return (static_cast<size_t>(batch) * s.keys() + j) * s.width() + column(0); }
  int column(int c) const { return head * s.head_dim + c; }
  // -1 where r has no row.
  int64_t position(int j) const {
    const int at = (s.memory + place - j) * (batch >= s.reversed_from ? -1 : 1) - s.first_distance();
    return at < 0 || at >= s.position_rows() ? int64_t{-1} : static_cast<int64_t>(at) * s.width() + column(0);
  }
  double position_value(int j, int c) const { return position(j) < 0 ? 0 : o.position[position(j) + c]; }
  // Of e, with segments.
  size_t embedding(int j) const {
    const int segment = j < s.memory ? 0 : o.segments[batch * s.length + j - s.memory];
    return (segment != o.segments[batch * s.length + place] ? s.width() : 0) + column(0);
  }
  double embedding_value(int j, int c) const { return s.segments ? o.segment_embedding[embedding(j) + c] : 0; }
};

// visit(row) for the rows of a stream that stand somewhere.
template <typename Visit>
void for_each_row(const Shape& s, const Operands& o, bool query, const Visit& visit) {
  const int rows = s.rows(query);
  for (size_t item = 0; item < static_cast<size_t>(s.batch) * s.heads * rows; ++item) {
    const int n = static_cast<int>(item % rows), h = static_cast<int>(item / rows % s.heads);
    const int b = static_cast<int>(item / rows / s.heads);
    const int place = s.stands_anywhere(query) ? o.positions[query ? 1 : 0][b * rows + n] : n;
    if (place >= 0) visit(Row{s, o, b, h, n, place, item, (static_cast<size_t>(b) * rows + n) * s.width() + h * s.head_dim});
  }
}

}  // namespace permutation_test
