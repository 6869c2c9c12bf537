// XLNet's attention for tests: operands on the device, and results compared with those in double precision.
#pragma once

#include <map>
#include <sstream>

#include "cuda/attention_testing.h"
#include "cuda/permutation_bounds.h"
#include "cuda/permutation_reference.h"
#include "cuda/testing.h"

namespace permutation_test {

using namespace attention_test;

constexpr uint64_t kOffsets[2] = {kOffset, 0x700000001ull};

// Operands on the device, and a block of parameters for them. `gap` of 8 keeps rows of 16-byte pieces aligned, 3 does
// not.
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
        current(packed_keys<T>(o, s, s.memory, s.keys(), gap)),
        memory(packed_keys<T>(o, s, 0, s.memory, gap)),
        position(side_by_side<T>({narrowed<T>(o.position)}, s.position_rows(), s.width(), gap)),
        content_bias(narrowed<T>(o.content_bias)),
        position_bias(narrowed<T>(o.position_bias)),
        segment_bias(narrowed<T>(o.segment_bias)),
        segment_embedding(narrowed<T>(o.segment_embedding)),
        head_scale(narrowed<T>(o.head_scale)),
        positions{DeviceArray<int32_t>(o.positions[0]), DeviceArray<int32_t>(o.positions[1])},
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
    if (s.stands_anywhere(query)) to.positions = positions[query ? 1 : 0].data();
    if (to.length > 0) to.query = from.query.data(), to.out = from.out.data(), to.log_sum_exp = from.log_sum_exp.data();
    return to;
  }

  xlformers::PermutationAttentionParams params() {
    xlformers::PermutationAttentionParams p = {};
    p.dtype = kDType<T>;
    p.batch = s.batch, p.heads = s.heads, p.head_dim = s.head_dim;
    p.scale = s.scale();
    p.content = stream(false), p.query = stream(true);
    p.current = attention_rows(current, s.length, s.width(), gap);
    p.memory = attention_rows(memory, s.memory, s.width(), gap);
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
  DeviceArray<int32_t> positions[2], segments, query_ranks, key_ranks, starts;
  DeviceArray<uint8_t> mask, padding;
};

// All that a problem is made of, as the fields of Shape, the strides' gaps and the operands' seed.
template <typename T>
std::string describe(const Shape& s, int gap, uint32_t seed) {
  std::ostringstream text;
  text << kTypeName<T> << " batch " << s.batch << " heads " << s.heads << " head_dim " << s.head_dim << " length " << s.length << " memory "
       << s.memory << " content " << s.rows(false) << " queries " << s.queries << " band " << s.upper << ' ' << s.lower << ' ' << s.segment
       << " reversed_from " << s.reversed_from << " dropout " << s.dropout << " mask " << static_cast<int>(s.mask) << " padding "
       << s.padding << ' ' << s.gap_begin << ' ' << s.gap_end;
  const std::pair<const char*, bool> has[] = {{"positions", s.positions}, {"content_positions", s.content_positions},
                                              {"segments", s.segments},   {"ranks", s.ranks},
                                              {"biases", s.biases},       {"head_scale", s.head_scale},
                                              {"starts", s.starts},       {"near", s.near}};
  for (const auto& [name, present] : has) text << (present ? " " : "") << (present ? name : "");
  text << ", gap " << gap << ", operands " << seed;
  return text.str();
}

// `seed`: of the operands.
template <typename T>
void check_forward(const Shape& s, int gap, uint32_t seed = 17, Shares* shares = nullptr) {
  const Operands operands = make_operands(s, seed, rounded<T>);
  const Results expected = reference(s, operands, kSeed, kOffsets);
  Problem<T> problem(s, operands, gap);
  const auto params = problem.params();
  with_description(describe<T>(s, gap, seed), [&] {
    run(xlformers::cuda::permutation_attention, &params);
    for (int q = 0; q < 2; ++q) {
      auto& stream = problem.streams[q];
      const ForwardBounds bounds = forward_bounds(s, operands, expected, q == 1, kRoundingTo<T>);
      std::vector<double> sums = expected.stream[q].log_sum_exp, got(sums.size());
      for (size_t i = 0; i < sums.size(); ++i) {
        got[i] = stream.log_sum_exp[i];
        if (sums[i] < kBlind && got[i] < kBlind) sums[i] = got[i] = 0;
      }
      expect_within<T>(gathered(stream.out, s.batch * s.rows(q == 1), s.width(), s.width(), 0), expected.stream[q].out, bounds.out, "out",
                       shares);
      expect_within<T>(got, sums, bounds.log_sum_exp, "log_sum_exp", shares);
    }
  });
}

template <typename T>
void check_probabilities(const Shape& s, int gap, uint32_t seed = 29, Shares* shares = nullptr) {
  const Operands operands = make_operands(s, seed, rounded<T>);
  const Results expected = reference(s, operands, kSeed, kOffsets);
  Problem<T> problem(s, operands, gap);
  problem.put(expected);
  DeviceArray<T> probabilities[2] = {DeviceArray<T>(expected.stream[0].probabilities.size()),
                                     DeviceArray<T>(expected.stream[1].probabilities.size())};
  const xlformers::PermutationAttentionProbabilitiesParams params = {problem.params(), probabilities[0].data(), probabilities[1].data()};
  with_description(describe<T>(s, gap, seed), [&] {
    run(xlformers::cuda::permutation_attention_probabilities, &params);
    for (int q = 0; q < 2; ++q) {
      expect_within<T>(as_doubles(probabilities[q].values()), expected.stream[q].probabilities,
                       probability_bounds(s, operands, expected, q == 1, kRoundingTo<T>), "probabilities", shares);
    }
  });
}

// Returns all gradients, for comparisons bit by bit.
template <typename T>
std::vector<double> check_gradient(const Shape& s, int gap, uint32_t seed = 23, Shares* shares = nullptr) {
  const Operands operands = make_operands(s, seed, rounded<T>);
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
  const GradientBounds bounds = gradient_bounds(s, operands, expected, kRoundingTo<T>);
  const int width = s.width(), key_stride = 2 * width + gap, stride = width + gap;
  std::vector<double> all;
  const auto check = [&](const std::vector<double>& got, const std::vector<double>& wanted, const std::vector<double>& most,
                         const char* what) {
    expect_within<T>(got, wanted, most, what, shares);
    all.insert(all.end(), got.begin(), got.end());
  };
  const auto current_rows = [&](const std::vector<double>& values) { return rows_of(values, s, s.memory, s.keys()); };
  const auto memory_rows = [&](const std::vector<double>& values) { return rows_of(values, s, 0, s.memory); };
  with_description(describe<T>(s, gap, seed), [&] {
    run(xlformers::cuda::permutation_attention_gradient, &params);
    for (int q = 0; q < 2; ++q) {
      check(gathered(queries[q], s.batch * s.rows(q == 1), width, stride, 0), expected.stream[q].query, bounds.query[q],
            q == 1 ? "query" : "content");
    }
    const int currents = s.batch * s.length, memories = s.batch * s.memory;
    check(gathered(current, currents, width, key_stride, 0), current_rows(expected.key), current_rows(bounds.key), "key");
    check(gathered(current, currents, width, key_stride, 1), current_rows(expected.value), current_rows(bounds.value), "value");
    check(gathered(memory, memories, width, key_stride, 0), memory_rows(expected.key), memory_rows(bounds.key), "memory key");
    check(gathered(memory, memories, width, key_stride, 1), memory_rows(expected.value), memory_rows(bounds.value), "memory value");
    check(gathered(position, s.position_rows(), width, stride, 0), expected.position, bounds.position, "position");
    if (s.biases) {
      check(gathered(content_bias, 1, width, width, 0), expected.content_bias, bounds.content_bias, "content bias");
      check(gathered(position_bias, 1, width, width, 0), expected.position_bias, bounds.position_bias, "position bias");
      check(gathered(segment_bias, 1, width, width, 0), expected.segment_bias, bounds.segment_bias, "segment bias");
    }
    if (s.segments) {
      check(gathered(segment_embedding, 2, width, width, 0), expected.segment_embedding, bounds.segment_embedding, "segment embedding");
    }
  });
  return all;
}

}  // namespace permutation_test
