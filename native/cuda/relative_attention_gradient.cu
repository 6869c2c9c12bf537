#include "cuda/relative_gradient.h"
#include "cuda/relative_gradient_plan.h"
#include "cuda/relative_gradient_sums.cuh"
#include "cuda/relative_pack.cuh"
#include "cuda/relative_scalar_key_gradient.cuh"
#include "cuda/relative_scalar_position_gradient.cuh"
#include "cuda/relative_scalar_query_gradient.cuh"

namespace xlformers::cuda {
namespace {

constexpr const char* kName = "relative_attention_gradient";

template <typename T>
Status run(const Context& context, const char* name, int64_t blocks, size_t shared_bytes,
           void (*kernel)(RelativeGradientProblem<T>), const RelativeGradientProblem<T>& problem) {
  if (blocks == 0) return ok_status();
  return launch({name, dim3(static_cast<unsigned>(blocks)), dim3(kScalarThreads), shared_bytes, context.stream}, kernel, problem);
}

// The three large kernels: dQ; dK and dV; dR by parts of the batch.
template <typename T>
Status run_scalar(const Context& context, const RelativeGradientProblem<T>& problem) {
  using C = Compute<T>;
  constexpr int kSide = ScalarTile<C>::kSide;
  const RelativeProblem<T>& forward = problem.forward;
  const int64_t pairs = static_cast<int64_t>(forward.batch) * forward.heads;
  return with_scalar_columns(forward.head_dim, [&](auto tag) {
    constexpr int kColumns = decltype(tag)::value;
    Status status = run(context, kName, pairs * tiles_of(forward.query_length, kSide), scalar_shared_bytes<C>(kColumns, 1),
                        relative_scalar_query_gradient<T, kColumns>, problem);
    if (status.ok()) {
      status = run(context, kName, pairs * tiles_of(forward.band.keys, kSide), scalar_shared_bytes<C>(kColumns, 2),
                   relative_scalar_key_gradient<T, kColumns>, problem);
    }
    if (status.ok()) {
      status = run(context, kName, static_cast<int64_t>(problem.splits) * forward.heads * tiles_of(forward.position_rows, kSide),
                   scalar_shared_bytes<C>(kColumns, 1), relative_scalar_position_gradient<T, kColumns>, problem);
    }
    return status;
  });
}

template <typename T>
Status run_tensor(const Context& context, const RelativeGradientProblem<T>& gradient) {
  const RelativeProblem<T>& forward = gradient.forward;
  TensorGradientProblem<T> problem;
  problem.gradient = gradient;
  Status status = make_tensor_problem(context, kName, forward, &problem.tensor);
  const RelativeProblem<T>& rows = problem.tensor.rows;
  const int64_t row = static_cast<int64_t>(forward.heads) * forward.head_dim;
  problem.out_gradient = {gradient.out_gradient, row, forward.query_length * row};
  if (status.ok() && (forward.head_dim % 8 != 0 || !is_aligned(problem.out_gradient))) {
    const StridedRows<const T> given = problem.out_gradient;
    status = pack_rows(context, kName, given, forward.batch, forward.query_length, forward, &problem.out_gradient);
  }
  if (!status.ok()) return status;
  const int64_t keys = static_cast<int64_t>(forward.batch) * forward.heads * forward.band.keys;
  status = make_terms(context, kName, KeyItems<T>{rows}, keys, forward.content_bias, forward.head_dim, &problem.key_terms);
  return status.ok() ? launch_tensor_gradient(context, problem) : status;
}

template <typename T>
Status differentiate(const Context& context, const RelativeAttentionGradientParams& params, int chunks) {
  using C = Compute<T>;
  RelativeGradientProblem<T> problem;
  RelativeProblem<T>& forward = problem.forward;
  Status status = make_problem(context, Operator::relative_attention_gradient, params.forward, &forward);
  if (!status.ok()) return status;
  const int64_t pairs = static_cast<int64_t>(forward.batch) * forward.heads;
  const int64_t width = static_cast<int64_t>(forward.heads) * forward.head_dim;
  problem.out_gradient = static_cast<const T*>(params.out_gradient);
  problem.query_gradient = {static_cast<T*>(params.query_gradient), params.forward.query_row_stride, params.forward.query_batch_stride};
  problem.key_gradient = gradient_rows<T>(params.memory_key_gradient, params.current_key_gradient, params.forward);
  problem.value_gradient = gradient_rows<T>(params.memory_value_gradient, params.current_value_gradient, params.forward);
  problem.position_gradient = static_cast<T*>(params.position_gradient);
  problem.chunks = chunks;
  problem.splits = chunks > 0 ? forward.batch * chunks : position_splits(context, forward);
  problem.padded_head_dim = padded_head_dim(forward.head_dim);
  problem.delta = context.workspace.allocate<C>(pairs * forward.query_length);
  problem.key_sums = context.workspace.allocate<C>(pairs * forward.band.keys);
  const int64_t partial_width = chunks > 0 ? int64_t{forward.heads} * problem.padded_head_dim : width;
  problem.partial = context.workspace.allocate<C>(int64_t{problem.splits} * forward.position_rows * partial_width);
  problem.partial_sums = context.workspace.allocate<C>(int64_t{problem.splits} * forward.heads * forward.position_rows);

  status = make_delta(context, kName, DeltaRows<T>{problem.out_gradient, forward.out, forward.batch, forward.query_length, forward.heads,
                                                   forward.head_dim, problem.delta});
  if (status.ok()) {
    if constexpr (sizeof(T) == 2) {
      status = run_tensor(context, problem);
    } else {
      status = run_scalar(context, problem);
    }
  }
  if (status.ok()) {
    const int64_t elements = forward.position_rows * width;
    status = chunks > 0 ? for_each(context, kName, elements, SumDiagonalGradient<T>{problem})
                        : for_each(context, kName, elements, SumPositionGradient<T>{problem});
  }
  if (status.ok()) {
    status = sum_bias_gradients(context, kName, problem, static_cast<T*>(params.content_bias_gradient), static_cast<T*>(params.position_bias_gradient));
  }
  return status;
}

}  // namespace

Status relative_attention_gradient_in_chunks(const Context& context, const RelativeAttentionGradientParams& params, int chunks) {
  if (params.forward.memory.ring_head != nullptr) {
    return make_status(StatusCode::unsupported, "memory that is a ring has no gradient");
  }
  return with_float_type(params.forward.dtype, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    return differentiate<T>(context, params, chunks);
  });
}

Status relative_attention_gradient(const Context& context, const void* block) {
  const auto& params = *static_cast<const RelativeAttentionGradientParams*>(block);
  const RelativeAttentionParams& forward = params.forward;
  const bool tensor_cores = forward.dtype == DType::bf16 || forward.dtype == DType::f16;
  const GradientShape shape = {forward.batch,        forward.heads,
                               forward.head_dim,     forward.query_length,
                               forward.memory.length + forward.current.length, forward.position_rows};
  return relative_attention_gradient_in_chunks(context, params,
                                               tensor_cores ? gradient_chunks(shape, context.device.multiprocessors) : 0);
}

}  // namespace xlformers::cuda
