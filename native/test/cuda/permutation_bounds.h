// What rounding may do to the results of permutation attention, element by element, from the operands and the exact
// results. An implementation may round to its number type: dropout(P) and dS before they meet values, gradients of out,
// keys, positions and queries; O, of which D = dO . O is made; and what it returns. The rest is in fp32.
#pragma once

#include <vector>

#include "cuda/permutation_reference.h"
#include "cuda/rounding_bounds.h"

namespace permutation_test {

// Below it is the log-sum-exp of a row that sees nothing.
constexpr double kBlind = -5e29;

using attention_test::Rounding;

struct ForwardBounds {
  std::vector<double> out, log_sum_exp;
};

struct GradientBounds {
  std::vector<double> query[2], key, value, position, content_bias, position_bias, segment_bias, segment_embedding;
};

// Of one stream.
ForwardBounds forward_bounds(const Shape& s, const Operands& o, const Results& r, bool query, Rounding rounding);

// Of what permutation_attention_probabilities makes of the saved log-sum-exp.
std::vector<double> probability_bounds(const Shape& s, const Operands& o, const Results& r, bool query, Rounding rounding);

GradientBounds gradient_bounds(const Shape& s, const Operands& o, const Results& r, Rounding rounding);

}  // namespace permutation_test
