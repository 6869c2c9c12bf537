// Draws ids from rows of scores: temperature, top-k, top-p, inverse transform, a block to a row. Linear in the number
// of columns: the truncations find their cut by a radix descent over the bits of the scores instead of sorting
// (native/cpu/sample.cc).
//
// Weights are integers, e^((score - highest) / temperature) in units of 2^-shift with shift >= 31, so that sums are
// exact in any order: histograms by atomics are deterministic, and a cumulative weight exceeds its target or does not.
#include <algorithm>
#include <limits>

#include "core/philox.h"
#include "cuda/row_softmax.cuh"

namespace xlformers::cuda {
namespace {

// Counter word 2 of this operator's blocks; dropout has 0 and random_fill 1.
constexpr uint32_t kSampleLane = 2;
constexpr int kDigitBits = 8, kDigitValues = 1 << kDigitBits;

template <typename T>
struct Draw {
  using C = Compute<T>;

  int64_t rows, columns;
  C temperature;
  bool best_only;
  int64_t top_k;  // 0: off
  double top_p;   // 1: off
  C unit;         // 2^shift
  PhiloxStream stream;
  uint32_t* streams;  // of each row; null: all draw from `stream`
  const T* scores;
  int32_t* ids;
  C* log_probability;  // null: not wanted
};

// 64-bit sums by native 32-bit atomics: whoever lets the lower half wrap carries.
struct Histogram {
  uint32_t low[kDigitValues], high[kDigitValues];
};

__device__ __forceinline__ void add_to(Histogram& histogram, uint32_t digit, uint64_t mass) {
  const auto low = static_cast<uint32_t>(mass);
  const uint32_t before = atomicAdd(&histogram.low[digit], low);
  const uint32_t high = static_cast<uint32_t>(mass >> 32) + (before + low < before ? 1u : 0u);
  if (high != 0) atomicAdd(&histogram.high[digit], high);
}

__device__ __forceinline__ uint64_t mass_of(const Histogram& histogram, int digit) {
  return uint64_t{histogram.high[digit]} << 32 | histogram.low[digit];
}

struct Digit {
  uint32_t value;
  uint64_t above;  // mass of the scores that are higher
};

// By a warp: the highest digit at which the masses from above reach `target`, or else the lowest that has any mass.
// Lane l has the eight digits from 255 - 8 l downwards.
__device__ __forceinline__ Digit choose_digit(const Histogram& histogram, uint64_t above, uint64_t target) {
  constexpr int kOwn = kDigitValues / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32, first = kDigitValues - 1 - kOwn * lane;
  uint64_t own = 0;
#pragma unroll
  for (int i = 0; i < kOwn; ++i) own += mass_of(histogram, first - i);
  uint64_t through = own;  // of this lane and those before
#pragma unroll
  for (int distance = 1; distance < 32; distance *= 2) {
    const uint64_t other = __shfl_up_sync(0xFFFFFFFFu, through, static_cast<unsigned>(distance));
    if (lane >= distance) through += other;
  }
  const uint32_t reaching = __ballot_sync(0xFFFFFFFFu, above + through >= target ? 1 : 0);
  const uint32_t massive = __ballot_sync(0xFFFFFFFFu, own != 0 ? 1 : 0);
  const int chosen = reaching != 0 ? __ffs(static_cast<int>(reaching)) - 1 : 31 - __clz(static_cast<int>(massive));
  Digit digit = {0, 0};
  uint64_t sum = above + through - own;
  bool reached = false;
#pragma unroll
  for (int i = 0; i < kOwn; ++i) {
    const uint64_t mass = mass_of(histogram, first - i);
    if (mass == 0 || reached) continue;
    digit = {static_cast<uint32_t>(first - i), sum};
    sum += mass;
    reached = sum >= target;
  }
  return {__shfl_sync(0xFFFFFFFFu, digit.value, chosen), __shfl_sync(0xFFFFFFFFu, digit.above, chosen)};
}

// The kept columns: those whose score ranks no later than the last one kept.
template <typename Key>
struct Kept {
  Key key = 0;
  int32_t column = INT32_MAX;

  __device__ __forceinline__ bool holds(Key other, int64_t at) const {
    return other > key || (other == key && at <= column);
  }
};

// One row, by all threads of a block. Members hold the same values in all of them.
template <typename T, int threads>
struct RowDraw {
  using C = Compute<T>;
  using Key = KeyOf<T>;
  static constexpr int kWarps = threads / 32;

  const Draw<T>& problem;
  const T* scores;
  C highest;
  Kept<Key> kept;

  // NaN is never drawn.
  __device__ __forceinline__ uint64_t weight(C score) const {
    const C value = exp_of((score - highest) / problem.temperature);
    return value > 0 ? static_cast<uint64_t>(value * problem.unit + C{0.5}) : 0;
  }

  __device__ __forceinline__ uint64_t kept_weight(C score, int64_t column) const {
    return kept.holds(ordered_key<T>(score), column) ? weight(score) : 0;
  }

  // body(score, column)
  template <typename Body>
  __device__ __forceinline__ void for_scores(const Body& body) const {
    for_vectors<threads>(scores, problem.columns, C{0}, [&](int64_t first, Vector<T>& values) {
#pragma unroll
      for (int i = 0; i < kVectorElements<T>; ++i) {
        if (first + i >= 0 && first + i < problem.columns) body(values[i], first + i);
      }
    });
  }

  __device__ __forceinline__ uint64_t total() const {
    unsigned long long mine = 0;
    for_scores([&](C score, int64_t column) { mine += kept_weight(score, column); });
    return block_total<threads>(mine);
  }

  // The first column whose cumulative mass, ascending, exceeds target_of(total); -1: none. Warps have neighbouring
  // parts of the row.
  template <typename Mass, typename Target>
  __device__ __forceinline__ int32_t first_beyond(const Mass& mass, const Target& target_of) const {
    XL_SHARED(of_warp, unsigned long long[kWarps]);
    XL_SHARED(found, int32_t);
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    const int64_t part = (problem.columns + threads - 1) / threads * 32;
    const int64_t begin = warp * part, end = begin + part < problem.columns ? begin + part : problem.columns;
    const auto mass_at = [&](int64_t column) { return column < end ? mass(widen(scores[column]), column) : 0; };
    unsigned long long sum = 0;
    for (int64_t column = begin + lane; column < end; column += 32) sum += mass_at(column);
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) sum += from_lane_across(sum, distance);
    __syncthreads();  // the last use of shared memory
    if (lane == 0) of_warp[warp] = sum;
    if (threadIdx.x == 0) found = -1;
    __syncthreads();
    unsigned long long all = 0, before = 0;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) {
      if (w == warp) before = all;
      all += of_warp[w];
    }
    const uint64_t target = target_of(all);
    if (before <= target && before + sum > target) {  // of one warp at most
      for (int64_t column = begin + lane;; column += 32) {
        unsigned long long through = mass_at(column);
#pragma unroll
        for (int distance = 1; distance < 32; distance *= 2) {
          const unsigned long long other = __shfl_up_sync(0xFFFFFFFFu, through, static_cast<unsigned>(distance));
          if (lane >= distance) through += other;
        }
        const uint32_t beyond = __ballot_sync(0xFFFFFFFFu, before + through > target ? 1 : 0);
        if (beyond != 0) {
          if (lane == __ffs(static_cast<int>(beyond)) - 1) found = static_cast<int32_t>(column);
          break;
        }
        before += __shfl_sync(0xFFFFFFFFu, through, 31);
      }
    }
    __syncthreads();
    return found;
  }

  // Of the columns kept so far, ranked by score, keeps the shortest leading run whose masses add up to `target`, all
  // where they do not. mass(score): of a column kept so far; some have one. 0 < target.
  template <typename Mass>
  __device__ __forceinline__ void keep_leading(uint64_t target, const Mass& mass) {
    XL_SHARED(histogram, Histogram);
    XL_SHARED(chosen, Digit);
    const auto kept_mass = [&](C score, int64_t column) {
      return kept.holds(ordered_key<T>(score), column) ? mass(score) : uint64_t{0};
    };
    Key prefix = 0;  // the leading digits of the last score kept
    Key known = 0;   // the bits of it that are decided
    uint64_t above = 0;
#pragma unroll 1
    for (int shift = (ScoreKey<T>::kDigits - 1) * kDigitBits; shift >= 0; shift -= kDigitBits) {
      __syncthreads();  // the last use of shared memory
      for (int i = static_cast<int>(threadIdx.x); i < kDigitValues; i += threads)
        histogram.low[i] = histogram.high[i] = 0;
      __syncthreads();
      for_scores([&](C score, int64_t column) {
        const Key key = ordered_key<T>(score);
        if ((key & known) != prefix) return;
        const uint64_t share = kept_mass(score, column);
        if (share != 0) add_to(histogram, static_cast<uint32_t>(key >> shift) & (kDigitValues - 1), share);
      });
      __syncthreads();
      if (threadIdx.x < 32) {
        const Digit digit = choose_digit(histogram, above, target);
        if (threadIdx.x == 0) {
          chosen.value = digit.value;
          chosen.above = digit.above;
        }
      }
      __syncthreads();
      prefix |= static_cast<Key>(chosen.value) << shift;
      known |= static_cast<Key>(kDigitValues - 1) << shift;
      above = chosen.above;
    }
    // Of equals the lower columns: as many as reach the target, which `above` does not.
    const int32_t column = first_beyond(
        [&](C score, int64_t at) { return ordered_key<T>(score) == prefix ? kept_mass(score, at) : uint64_t{0}; },
        [&](uint64_t) { return target - above - 1; });
    if (column >= 0) {
      kept.column = column;
    } else if (prefix != kept.key) {
      kept.column = INT32_MAX;  // all of them
    }
    kept.key = prefix;
  }

  // u in [0, 1) is word * 2^-32. -1: there is no weight at all.
  __device__ __forceinline__ int32_t draw(uint32_t word) {
    const bool cut_number = problem.top_k > 0 && problem.top_k < problem.columns, cut_mass = problem.top_p < 1;
    if (cut_number && total() > 0) {
      keep_leading(static_cast<uint64_t>(problem.top_k),
                   [&](C score) { return weight(score) > 0 ? uint64_t{1} : uint64_t{0}; });
    }
    if (cut_mass) {
      const uint64_t all = total();
      const auto target = static_cast<uint64_t>(ceil(problem.top_p * static_cast<double>(all)));
      if (all > 0) keep_leading(target > 0 ? target : 1, [&](C score) { return weight(score); });
    }
    return first_beyond([&](C score, int64_t column) { return kept_weight(score, column); },
                        [&](uint64_t all) { return (all >> 32) * word + ((all & 0xFFFFFFFFu) * word >> 32); });
  }
};

// Reads a row once for its best score and log-sum-exp, twice to draw, and once per digit of a truncation's cut: all but
// the first time from the L2 cache. H100, 8 rows of 267735 in fp32, top-k and top-p: 8.6 MB once; one multiprocessor
// reads about 150 GB/s, so a pass over 1.07 MB takes 7 us, 14 of them 100 us; without truncations 3 passes, 21 us.
template <typename T, int threads>
__global__ void __launch_bounds__(threads, 1) draw_rows(const Draw<T> problem) {
  using C = Compute<T>;
  using Candidate = Ranked<KeyOf<T>>;
  for (int64_t row = blockIdx.x; row < problem.rows; row += gridDim.x) {
    RowDraw<T, threads> draw = {problem, problem.scores + row * problem.columns, C{0}, {}};
    ExponentialSum<C> mine;
    Candidate best = behind_all<KeyOf<T>>();
    for_vectors<threads>(draw.scores, problem.columns, minus_infinity<C>(), [&](int64_t first, Vector<T>& values) {
      mine.add(values);
#pragma unroll
      for (int i = 0; i < kVectorElements<T>; ++i) {
        const Candidate candidate = {ordered_key<T>(values[i]), static_cast<int32_t>(first) + i};
        if (first + i >= 0 && first + i < problem.columns && candidate.before(best)) best = candidate;
      }
    });
    best = first_of_block<threads>(best);
    draw.highest = widen(draw.scores[best.column]);
    int32_t id = best.column;
    if (!problem.best_only) {
      uint32_t* const stored = problem.streams == nullptr ? nullptr : problem.streams + 4 * row;
      const PhiloxStream stream = stored == nullptr ? problem.stream : stored_stream(stored);
      const auto stream_row = stored == nullptr ? static_cast<uint32_t>(row) : 0u;
      const int32_t drawn =
          draw.draw(stream.block(stream_row, 0, kSampleLane).word[0]);  // meets all threads: they have read it
      if (stored != nullptr && threadIdx.x == 0) store_next_offset(stream.offset, stored);
      if (drawn >= 0) id = drawn;  // otherwise every score is infinite or NaN
    }
    if (threadIdx.x == 0) problem.ids[row] = id;
    if (problem.log_probability == nullptr) continue;
    const C log_sum_exp = block_sum_of<threads>(mine).logarithm();
    if (threadIdx.x == 0) problem.log_probability[row] = widen(draw.scores[id]) - log_sum_exp;
  }
}

template <typename T>
Status draw_with(const Context& context, const SampleParams& params) {
  using C = Compute<T>;
  int bits = 0;  // all weights together are at most columns * unit < 2^63
  while ((params.columns >> bits) != 0) ++bits;
  const Draw<T> problem = {params.rows,
                           params.columns,
                           std::max(static_cast<C>(params.temperature), std::numeric_limits<C>::min()),
                           params.temperature == 0,
                           params.top_k,
                           params.top_p,
                           static_cast<C>(uint64_t{1} << (62 - bits)),
                           {params.seed, params.offset},
                           params.streams,
                           static_cast<const T*>(params.scores),
                           params.ids,
                           static_cast<C*>(params.log_probability)};
  if (params.columns <= kShortRow) {
    return launch(row_launch(context, "sample", params.rows, kShortRowThreads), draw_rows<T, kShortRowThreads>,
                  problem);
  }
  return launch(row_launch(context, "sample", params.rows, kLongRowThreads), draw_rows<T, kLongRowThreads>, problem);
}

}  // namespace

Status sample(const Context& context, const void* block) {
  const auto& params = *static_cast<const SampleParams*>(block);
  if (params.columns <= 0)
    return make_status(StatusCode::invalid_argument, "sample: there are no columns to draw from");
  if (params.rows == 0) return ok_status();
  return with_float_type(params.dtype,
                         [&](auto tag) { return draw_with<typename decltype(tag)::Type>(context, params); });
}

}  // namespace xlformers::cuda
