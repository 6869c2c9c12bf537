// What rounding may do to numbers and to sums of them, for tests that derive the bounds of their results.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

namespace attention_test {

// What rounding to a type may change: so much of the number, and so much where numbers are subnormal.
struct Rounding {
  double relative, absolute;

  double of(double value) const { return relative * std::fabs(value) + absolute; }
};

// Relative to the sum of magnitudes, a sum of `terms` numbers in fp32: four standard deviations of a random walk, and
// no less than what tensor cores cut off by not rounding.
inline double summing(double terms) { return 4 * 0x1p-24 * std::sqrt(terms + 1); }

// Of a number that independent roundings change by at most b_k each: no more than their sum, and hardly more than four
// times the root of the sum of b_k^2. Uniform errors are sub-Gaussian with variance b_k^2 / 3, so that the probability
// is below 2 exp(-24) = 8e-11.
struct Error {
  double sum = 0, squares = 0;

  void add(double bound) { sum += bound, squares += bound * bound; }
  void add(const Error& other, double weight) { sum += std::fabs(weight) * other.sum, squares += weight * weight * other.squares; }
  double most() const { return std::min(sum, 4 * std::sqrt(squares)); }
};

// Results that are sums.
class SumBounds {
 public:
  explicit SumBounds(size_t count = 0) : errors_(count), magnitudes_(count) {}

  void add(size_t i, double term, double error) { magnitudes_[i] += std::fabs(term), errors_[i].add(error); }
  void add(size_t i, const Error& error, double weight) { errors_[i].add(error, weight); }

  // |got - wanted| of each result that is a sum of `terms` and rounded.
  std::vector<double> bounds(const std::vector<double>& wanted, double terms, Rounding rounding) const {
    std::vector<double> all(wanted.size());
    for (size_t i = 0; i < wanted.size(); ++i) {
      const double before = errors_[i].most() + summing(terms) * magnitudes_[i];
      all[i] = before + rounding.of(std::fabs(wanted[i]) + before);
    }
    return all;
  }

 private:
  std::vector<Error> errors_;
  std::vector<double> magnitudes_;
};

}  // namespace attention_test
