#include "cuda/attention_ring.h"
#include "cuda/relative_scalar.cuh"

namespace xlformers::cuda {
namespace {

// A block: a tile of scores, written once. Bound by those writes: sizeof(T) bytes a score.
template <typename T>
__global__ void __launch_bounds__(kScalarThreads) relative_probabilities(const RelativeProblem<T> problem, T* probabilities) {
  using C = Compute<T>;
  using Tile = ScalarTile<C>;
  constexpr int kMicro = Tile::kMicro, kSide = Tile::kSide;
  XL_DYNAMIC_SHARED(shared_bytes);
  C* const staging = reinterpret_cast<C*>(shared_bytes);
  const int query_tiles = (problem.query_length + kSide - 1) / kSide;
  const int key_tiles = (problem.band.keys + kSide - 1) / kSide;
  const int pair = static_cast<int>(blockIdx.x / key_tiles / query_tiles);
  const int query0 = static_cast<int>(blockIdx.x / key_tiles % query_tiles) * kSide;
  const int key0 = static_cast<int>(blockIdx.x % key_tiles) * kSide;
  const RelativeHead<T> head(problem, pair / problem.heads, pair % problem.heads);
  const int last = min(query0 + kSide, problem.query_length) - 1;
  typename Tile::Sums scores = {};
  if (key0 + kSide > head.first_key(query0) && key0 < head.end_key(last)) relative_scores(head, query0, key0, staging, scores);
  const int key = key0 + scalar_x() * kMicro;
#pragma unroll
  for (int r = 0; r < kMicro; ++r) {
    const int query = query0 + scalar_y() * kMicro + r;
    if (query >= problem.query_length) continue;
    const int begin = head.first_key(query), end = head.end_key(query);
    const C shift = problem.log_sum_exp[head.statistic_offset(query)];
    C kept[kMicro];
    if (problem.dropout.active()) {
      dropout_factors(problem.dropout, pair, query, key, 1, kept);
    } else {
#pragma unroll
      for (int c = 0; c < kMicro; ++c) kept[c] = 1;
    }
    T* const to = probabilities + head.statistic_offset(query) * problem.band.keys;
#pragma unroll
    for (int c = 0; c < kMicro; ++c) {
      const int j = key + c;
      const C p = j >= begin && j < end ? exponential(scores[r][c] - shift) * head.head_scale() * kept[c] : C{0};
      if (j < problem.band.keys) to[j] = narrow<T>(p);
    }
  }
}

template <typename T>
Status fill(const Context& context, const RelativeAttentionProbabilitiesParams& params) {
  using C = Compute<T>;
  RelativeProblem<T> problem;
  const Status status = make_problem(context, Operator::relative_attention_probabilities, params.forward, &problem);
  if (!status.ok()) return status;
  constexpr int kSide = ScalarTile<C>::kSide;
  const int64_t blocks =
      static_cast<int64_t>(problem.batch) * problem.heads * tiles_of(problem.query_length, kSide) * tiles_of(problem.band.keys, kSide);
  if (blocks == 0) return ok_status();
  if (blocks > INT32_MAX)
    return make_status(StatusCode::unsupported, "a matrix of %lld tiles of probabilities", static_cast<long long>(blocks));
  const LaunchShape shape = {"relative_attention_probabilities", dim3(static_cast<unsigned>(blocks)), dim3(kScalarThreads),
                             scalar_shared_bytes<C>(4, 0), context.stream};
  return launch(shape, relative_probabilities<T>, problem, static_cast<T*>(params.probabilities));
}

}  // namespace

Status relative_attention_probabilities(const Context& context, const void* block) {
  RelativeAttentionProbabilitiesParams params = *static_cast<const RelativeAttentionProbabilitiesParams*>(block);
  RelativeAttentionParams& forward = params.forward;
  forward.memory.value = nullptr;  // not read
  const Status status = unroll_ring(context, Operator::relative_attention_probabilities, forward.dtype, forward.batch,
                                    forward.heads * forward.head_dim, &forward.memory);
  if (!status.ok()) return status;
  return with_float_type(params.forward.dtype, [&](auto tag) { return fill<typename decltype(tag)::Type>(context, params); });
}

}  // namespace xlformers::cuda
