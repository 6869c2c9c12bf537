// Gradients of XLNet's attention: probabilities are computed again from the saved log-sum-exp, tile by tile (Dao et al. 2022).
#include "cuda/permutation_key_gradient.cuh"
#include "cuda/permutation_pack.cuh"
#include "cuda/permutation_position_gradient.cuh"
#include "cuda/permutation_query_gradient.cuh"
#include "cuda/permutation_tensor_gradient.h"
#include "cuda/relative_gradient_plan.h"

namespace xlformers::cuda {
namespace {

constexpr const char* kName = "permutation_attention_gradient";

// Block (b, w, h): parts[b, w, h, column] = scale * sum over the batch row's queries of S_w (q + s), and totals[b, w, h] = scale * sum of
// S_w. Reads the queries twice in all.
template <typename T>
__global__ void __launch_bounds__(kSumThreads)
    permutation_segment_parts(const PermutationGradientProblem<T> problem, Compute<T>* parts, Compute<T>* totals) {
  using C = Compute<T>;
  XL_SHARED(partial, C[kSumThreads]);
  XL_SHARED(partial_totals, C[kSumThreads]);
  const RelativeProblem<T>& shared = problem.forward.shared;
  const int block = static_cast<int>(blockIdx.x);
  const int head = block % shared.heads, which = block / shared.heads % 2, batch = block / shared.heads / 2;
  const int width = shared.head_dim <= 32 ? 32 : shared.head_dim <= 64 ? 64 : shared.head_dim <= 128 ? 128 : 256;
  const int column = static_cast<int>(threadIdx.x) % width;
  const bool inside = column < shared.head_dim;
  const T* const bias = problem.forward.segment_bias;
  const C shift = inside && bias != nullptr ? widen(bias[head * shared.head_dim + column]) : C{0};
  const int content = problem.forward.content.length, count = content + problem.forward.query.length;
  C sum = 0, total = 0;
  for (int index = static_cast<int>(threadIdx.x) / width; index < count; index += kSumThreads / width) {
    const bool second = index >= content;
    const int n = second ? index - content : index;
    const int length = second ? problem.forward.query.length : content;
    const C* const sums = second ? problem.query.segment_sums : problem.content.segment_sums;
    const C weight = sums[2 * ((static_cast<int64_t>(batch) * shared.heads + head) * length + n) + which];
    total += weight;
    // A row that stands nowhere has no part in anything.
    if (!inside || weight == 0) continue;
    const T* const row = second ? problem.forward.query.query.row(batch, n, head * shared.head_dim)
                                : problem.forward.content.query.row(batch, n, head * shared.head_dim);
    sum += weight * (widen(row[column]) + shift);
  }
  partial[threadIdx.x] = sum;
  partial_totals[threadIdx.x] = total;
  __syncthreads();
  if (!(static_cast<int>(threadIdx.x) < shared.head_dim)) return;
  for (int other = static_cast<int>(threadIdx.x) + width; other < kSumThreads; other += width) {
    sum += partial[other];
    total += partial_totals[other];
  }
  parts[static_cast<int64_t>(block) * shared.head_dim + threadIdx.x] = shared.scale * sum;
  if (threadIdx.x == 0) totals[block] = shared.scale * total;
}

// Item i of [heads, head_dim]: ds.
template <typename T>
struct SegmentBiasGradient {
  const T* embedding;  // [2, heads, head_dim]
  const Compute<T>* totals;
  int batch, heads, head_dim;
  T* out;

  __device__ void operator()(int64_t i) const {
    const int head = static_cast<int>(i / head_dim);
    Compute<T> sum = 0;
    for (int b = 0; b < batch; ++b) {
      for (int w = 0; w < 2; ++w) {
        sum += totals[(static_cast<int64_t>(b) * 2 + w) * heads + head] * widen(embedding[w * static_cast<int64_t>(heads) * head_dim + i]);
      }
    }
    out[i] = narrow<T>(sum);
  }
};

template <typename T>
Status sum_segment_gradients(const Context& context, const PermutationGradientProblem<T>& problem, T* bias, T* embedding) {
  using C = Compute<T>;
  const RelativeProblem<T>& shared = problem.forward.shared;
  if (embedding == nullptr && bias == nullptr) return ok_status();
  const int64_t width = static_cast<int64_t>(shared.heads) * shared.head_dim, blocks = int64_t{2} * shared.batch * shared.heads;
  Status status = ok_status();
  C* const parts = context.workspace.allocate<C>(blocks * shared.head_dim);
  C* const totals = context.workspace.allocate<C>(blocks);
  const bool segments = problem.forward.segment_embedding != nullptr;
  if (blocks > 0 && segments) {
    status = launch({kName, dim3(static_cast<unsigned>(blocks)), dim3(kSumThreads), 0, context.stream}, permutation_segment_parts<T>, problem,
                    parts, totals);
  }
  // A bias without an embedding has no part in the scores.
  const int batch = segments ? shared.batch : 0;
  if (embedding != nullptr && status.ok()) status = for_each(context, kName, 2 * width, SumParts<T>{parts, batch, 2 * width, embedding});
  if (bias != nullptr && status.ok()) {
    status = for_each(context, kName, width,
                      SegmentBiasGradient<T>{problem.forward.segment_embedding, totals, batch, shared.heads, shared.head_dim, bias});
  }
  return status;
}

template <typename T>
Status make_gradient_stream(const Context& context, const PermutationProblem<T>& problem, const AttentionStream& given, const void* out_gradient,
                            void* query_gradient, PermutationGradientStream<T>* stream) {
  using C = Compute<T>;
  const RelativeProblem<T>& shared = problem.shared;
  const int64_t rows = static_cast<int64_t>(shared.batch) * shared.heads * given.length;
  C* const delta = context.workspace.allocate<C>(rows);
  C* const segment_sums = problem.segment_embedding == nullptr ? nullptr : context.workspace.allocate<C>(2 * rows);
  *stream = {static_cast<const T*>(out_gradient), {static_cast<T*>(query_gradient), given.row_stride, given.batch_stride}, delta, segment_sums};
  return make_delta(context, kName, DeltaRows<T>{stream->out_gradient, static_cast<const T*>(given.out), shared.batch,
                                                 static_cast<int>(given.length), shared.heads, shared.head_dim, delta});
}

// dQ of both streams, and dR beside it; dK and dV.
template <typename T>
Status run_tensor_kernels(const Context& context, const PermutationGradientProblem<T>& problem) {
  const RelativeProblem<T>& shared = problem.forward.shared;
  PermutationTensorProblem<T> tensor;
  Status status = make_permutation_tensor_problem(context, kName, problem.forward, &tensor);
  const int64_t row = static_cast<int64_t>(shared.heads) * shared.head_dim;
  TensorGradientStream<T> streams[2];
  PositionPartials positions = {problem.shared.partial, problem.shared.partial_sums, problem.shared.chunks, true};
  for (const bool query : {false, true}) {
    TensorGradientStream<T>& gradient = streams[query ? 1 : 0];
    const PermutationStream<T>& stream = query ? tensor.problem.query : tensor.problem.content;
    const PermutationGradientStream<T>& given = query ? problem.query : problem.content;
    const StridedRows<const T> out_gradient = {given.out_gradient, row, stream.length * row};
    gradient = {stream, out_gradient, given.query_gradient, given.delta, given.segment_sums};
    if (!status.ok() || stream.length == 0) continue;
    if (shared.head_dim % 8 != 0 || !is_aligned(out_gradient)) {
      status = pack_rows(context, kName, out_gradient, shared.batch, stream.length, shared, &gradient.out_gradient);
    }
    if (status.ok()) status = launch_tensor_query_gradient(context, tensor, gradient, positions);
    positions.begin = false;
  }
  if (!status.ok()) return status;
  return launch_tensor_key_gradient(context, tensor, streams[0], streams[1],
                                    KeyGradientRows<T>{problem.shared.key_gradient, problem.shared.value_gradient, problem.shared.key_sums});
}

// The three large kernels: dQ of both streams; dK and dV; dR by parts of the batch.
template <typename T>
Status run_scalar_kernels(const Context& context, const PermutationGradientProblem<T>& problem) {
  using C = Compute<T>;
  constexpr int kSide = ScalarTile<C>::kSide;
  const PermutationProblem<T>& forward = problem.forward;
  const RelativeProblem<T>& shared = forward.shared;
  const int64_t pairs = static_cast<int64_t>(shared.batch) * shared.heads;
  const int64_t all_tiles = tiles_of_streams(forward);
  const int tiles = static_cast<int>(all_tiles);
  return with_scalar_columns(shared.head_dim, [&](auto tag) {
    constexpr int kColumns = decltype(tag)::value;
    if constexpr (has_tensor_gradient<T>(16 * kColumns)) {
      return ok_status();
    } else {
      Status status = launch_tiles(context, forward, pairs * all_tiles, scalar_shared_bytes<C>(kColumns, 1),
                                   permutation_scalar_query_gradient<T, kColumns>, problem, tiles);
      if (status.ok()) {
        status = launch_tiles(context, forward, pairs * tiles_of(shared.band.keys, kSide), scalar_shared_bytes<C>(kColumns, 2),
                              permutation_scalar_key_gradient<T, kColumns>, problem, tiles);
      }
      if (status.ok()) {
        status = launch_tiles(context, forward, int64_t{problem.shared.splits} * shared.heads * tiles_of(shared.position_rows, kSide),
                              scalar_shared_bytes<C>(kColumns, 2), permutation_scalar_position_gradient<T, kColumns>, problem, tiles);
      }
      return status;
    }
  });
}

// Where partial sums of dR go.
template <typename T>
void plan_positions(const Context& context, const PermutationProblem<T>& forward, RelativeGradientProblem<T>* shared) {
  using C = Compute<T>;
  const RelativeProblem<T>& operands = forward.shared;
  int64_t columns = operands.head_dim;
  shared->splits = position_splits(context, operands);
  if (has_tensor_gradient<T>(operands.head_dim)) {
    const int64_t queries = int64_t{forward.content.length} + forward.query.length;
    columns = kTensorGradientHeadSize;
    shared->chunks = joined_plan({operands.batch, operands.heads, operands.head_dim, queries, operands.band.keys, operands.position_rows},
                                 context.device.multiprocessors)
                         .chunks;
    shared->padded_head_dim = kTensorGradientHeadSize;
    shared->splits = queries > 0 ? operands.batch * shared->chunks : 0;
  }
  const int64_t rows = int64_t{shared->splits} * operands.heads * operands.position_rows;
  shared->partial = context.workspace.allocate<C>(rows * columns);
  shared->partial_sums = context.workspace.allocate<C>(rows);
}

template <typename T>
Status differentiate(const Context& context, const PermutationAttentionGradientParams& params) {
  using C = Compute<T>;
  PermutationGradientProblem<T> problem;
  PermutationProblem<T>& forward = problem.forward;
  Status status = make_permutation_problem(context, Operator::permutation_attention_gradient, params.forward, &forward);
  if (!status.ok()) return status;
  const RelativeAttentionParams view = relative_view(params.forward);
  const int64_t width = static_cast<int64_t>(forward.shared.heads) * forward.shared.head_dim;
  RelativeGradientProblem<T>& shared = problem.shared;
  shared = {};
  shared.forward = forward.shared;
  shared.key_gradient = gradient_rows<T>(params.memory_key_gradient, params.current_key_gradient, view);
  shared.value_gradient = gradient_rows<T>(params.memory_value_gradient, params.current_value_gradient, view);
  shared.position_gradient = static_cast<T*>(params.position_gradient);
  plan_positions(context, forward, &shared);
  shared.key_sums = context.workspace.allocate<C>(static_cast<int64_t>(forward.shared.batch) * forward.shared.heads * forward.shared.band.keys);
  status = make_gradient_stream(context, forward, params.forward.content, params.content_out_gradient, params.content_gradient, &problem.content);
  if (status.ok()) {
    status = make_gradient_stream(context, forward, params.forward.query, params.query_out_gradient, params.query_gradient, &problem.query);
  }
  const int64_t elements = forward.shared.position_rows * width;
  if (has_tensor_gradient<T>(forward.shared.head_dim)) {
    if constexpr (sizeof(T) == 2) {
      if (status.ok()) status = run_tensor_kernels(context, problem);
    }
    if (status.ok()) status = for_each(context, kName, elements, SumDiagonalGradient<T>{shared});
  } else {
    if (status.ok()) status = run_scalar_kernels(context, problem);
    if (status.ok()) status = for_each(context, kName, elements, SumPositionGradient<T>{shared});
  }
  if (status.ok()) {
    status = sum_bias_gradients(context, kName, shared, static_cast<T*>(params.content_bias_gradient),
                                static_cast<T*>(params.position_bias_gradient));
  }
  if (status.ok()) {
    status = sum_segment_gradients(context, problem, static_cast<T*>(params.segment_bias_gradient),
                                   static_cast<T*>(params.segment_embedding_gradient));
  }
  return status;
}

}  // namespace

Status permutation_attention_gradient(const Context& context, const void* block) {
  const auto& params = *static_cast<const PermutationAttentionGradientParams*>(block);
  if (params.forward.memory.ring_head != nullptr) {
    return make_status(StatusCode::unsupported, "memory that is a ring has no gradient");
  }
  return with_float_type(params.forward.dtype, [&](auto tag) { return differentiate<typename decltype(tag)::Type>(context, params); });
}

}  // namespace xlformers::cuda
