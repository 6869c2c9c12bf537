// Draws ids from rows of scores: temperature, top-k, top-p, inverse transform. Linear in the number of columns: the
// truncations find their cut by a radix descent over the bits of the scores instead of sorting.
#include "core/philox.h"
#include "cpu/log_sum_exp.h"

XL_KERNELS_BEGIN

namespace {

// Counter word 2 of this operator's blocks; dropout has 0 and random_fill 1.
constexpr uint32_t kSampleLane = 2;

// Unsigned numbers in the order of the scores: the sign bit flipped for positive ones, all bits for negative ones.
inline uint32_t ordered_key(float score) {
  score += 0.0f;  // -0 becomes +0, its equal
  uint32_t bits;
  __builtin_memcpy(&bits, &score, sizeof bits);
  return (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
}

inline uint64_t ordered_key(double score) {
  score += 0.0;
  uint64_t bits;
  __builtin_memcpy(&bits, &score, sizeof bits);
  return (bits >> 63) != 0 ? ~bits : bits | 0x8000000000000000u;
}

// The column of the highest score: of equals the first; never NaN, unless all are.
template <typename T>
int64_t argmax(const T* scores, int64_t columns) {
  int64_t best = 0;
  for (int64_t i = 1; i < columns; ++i) {
    if (scores[i] > scores[best] || (scores[best] != scores[best] && scores[i] == scores[i])) best = i;
  }
  return best;
}

// Rank the columns by descending score, of equals the lower id first. Keeps the shortest leading run whose masses add
// up to `target` (all, when they do not), by setting the weights of the others to zero. mass(i) >= 0.
template <typename T, typename Mass>
void keep_leading(const T* scores, int64_t columns, double target, const Mass& mass, double* weights) {
  using Key = decltype(ordered_key(T{}));
  constexpr int kDigitBits = 8, kDigits = 1 << kDigitBits;
  Key prefix = 0;    // the leading digits of the last score kept
  Key known = 0;     // the bits of it that are decided
  double above = 0;  // mass of the scores that are higher
  for (int shift = static_cast<int>(sizeof(Key)) * 8 - kDigitBits; shift >= 0; shift -= kDigitBits) {
    double masses[kDigits] = {};
    for (int64_t i = 0; i < columns; ++i) {
      const double share = mass(i);
      const Key key = ordered_key(scores[i]);
      if (share != 0 && (key & known) == prefix) masses[(key >> shift) & (kDigits - 1)] += share;
    }
    int chosen = 0;
    double above_chosen = above;
    for (int digit = kDigits - 1; digit >= 0; --digit) {
      if (masses[digit] == 0) continue;
      chosen = digit;
      above_chosen = above;
      above += masses[digit];
      if (above >= target) break;
    }
    above = above_chosen;
    prefix |= static_cast<Key>(chosen) << shift;
    known |= static_cast<Key>(kDigits - 1) << shift;
  }
  for (int64_t i = 0; i < columns; ++i) {
    const Key key = ordered_key(scores[i]);
    if (key > prefix) continue;
    if (key == prefix && (above < target || above == 0)) {
      above += mass(i);
    } else {
      weights[i] = 0;
    }
  }
}

double sum_of(const double* weights, int64_t columns) {
  double sum = 0;
  for (int64_t i = 0; i < columns; ++i) sum += weights[i];
  return sum;
}

// u in [0, 1): the first column whose cumulative weight exceeds u times the sum; the last one with a weight if rounding
// hides it.
int64_t inverse_transform(const double* weights, int64_t columns, double u) {
  const double target = u * sum_of(weights, columns);
  double cumulative = 0;
  int64_t last = -1;
  for (int64_t i = 0; i < columns; ++i) {
    if (weights[i] == 0) continue;
    last = i;
    cumulative += weights[i];
    if (cumulative > target) break;
  }
  return last;
}

template <typename T>
int64_t draw(const SampleParams& params, const T* scores, double u, double* weights) {
  const int64_t columns = params.columns;
  const int64_t best = argmax(scores, columns);
  if (params.temperature == 0) return best;
  const double highest = static_cast<double>(scores[best]);
  for (int64_t i = 0; i < columns; ++i) {
    const double weight = std::exp((static_cast<double>(scores[i]) - highest) / params.temperature);
    weights[i] = weight > 0 ? weight : 0;  // NaN is never drawn
  }
  if (params.top_k > 0 && params.top_k < columns) {
    keep_leading(
        scores, columns, static_cast<double>(params.top_k), [=](int64_t i) { return weights[i] > 0 ? 1.0 : 0.0; },
        weights);
  }
  if (params.top_p < 1) {
    const double target = params.top_p * sum_of(weights, columns);
    keep_leading(scores, columns, target, [=](int64_t i) { return weights[i]; }, weights);
  }
  const int64_t id = inverse_transform(weights, columns, u);
  return id >= 0 ? id : best;  // no weight at all: every score is infinite or NaN
}

}  // namespace

template <typename T>
static Status run_sample(Context& context, const SampleParams& params) {
  const int64_t columns = params.columns;
  if (columns <= 0) return make_status(StatusCode::invalid_argument, "sample: there are no columns to draw from");
  const int64_t scratch = params.temperature == 0 ? 0 : columns;
  double* weights = context.workspace.allocate<double>(scratch * context.pool.threads());
  parallel_blocks(context, params.rows, 1, [=, &params](int64_t row, int64_t, int worker) {
    const T* scores = static_cast<const T*>(params.scores) + row * columns;
    uint32_t* const stored = params.temperature == 0 || params.streams == nullptr ? nullptr : params.streams + 4 * row;
    const PhiloxStream stream = stored != nullptr ? stored_stream(stored) : PhiloxStream{params.seed, params.offset};
    const uint32_t stream_row = stored != nullptr ? 0 : static_cast<uint32_t>(row);
    const double u = static_cast<double>(stream.block(stream_row, 0, kSampleLane).word[0]) * 0x1p-32;
    if (stored != nullptr) store_next_offset(stream.offset, stored);
    const int64_t id = draw(params, scores, u, weights + worker * scratch);
    params.ids[row] = static_cast<int32_t>(id);
    if (params.log_probability != nullptr) {
      LogSumExp sum;
      add_to(sum, scores, columns);
      static_cast<T*>(params.log_probability)[row] = static_cast<T>(static_cast<double>(scores[id]) - sum.value());
    }
  });
  return ok_status();
}

XL_FLOATING_KERNEL(sample, SampleParams, run_sample)

XL_KERNELS_END
