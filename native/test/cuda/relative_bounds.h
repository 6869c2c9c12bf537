// What rounding may do to the results of relative attention, element by element, from the operands and the exact
// results. An implementation may round to its number type: dropout(P) and dS before they meet values, gradients of out,
// keys, positions and queries; O, of which D = dO . O is made; and what it returns. The rest is in fp32.
#pragma once

#include <vector>

#include "cuda/relative_reference.h"
#include "cuda/rounding_bounds.h"

namespace relative_test {

using attention_test::Rounding;

struct ForwardBounds {
  std::vector<double> out, log_sum_exp;
};

struct GradientBounds {
  std::vector<double> query, key, value, position, content_bias, position_bias;
};

ForwardBounds forward_bounds(const Shape& s, const Operands& o, const Results& r, Rounding rounding);

// Of what relative_attention_probabilities makes of the saved log-sum-exp.
std::vector<double> probability_bounds(const Shape& s, const Operands& o, const Results& r, Rounding rounding);

GradientBounds gradient_bounds(const Shape& s, const Operands& o, const Results& r, Rounding rounding);

}  // namespace relative_test
