// The small sums around the gradient kernels of relative attention. All run in a fixed order.
#pragma once

#include "cuda/attention_scalar_tile.cuh"
#include "cuda/elementwise.cuh"
#include "cuda/relative_gradient_problem.cuh"

namespace xlformers::cuda {

constexpr int kSumThreads = 256;

// Outputs [batch, length, heads, head_dim] and their gradients.
template <typename T>
struct DeltaRows {
  const T* out_gradient;
  const T* out;  // carries the head's scale already
  int batch, length, heads, head_dim;
  Compute<T>* delta;  // [batch, heads, length]
};

// delta[b, h, i] = dO_i . O_i: a warp a row. Reads both once: 2 * sizeof(T) bytes an element.
template <typename T>
__global__ void __launch_bounds__(kSumThreads) output_delta(const DeltaRows<T> rows) {
  using C = Compute<T>;
  const int64_t count = static_cast<int64_t>(rows.batch) * rows.length * rows.heads;
  const int64_t step = static_cast<int64_t>(gridDim.x) * (kSumThreads / 32);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  for (int64_t row = static_cast<int64_t>(blockIdx.x) * (kSumThreads / 32) + threadIdx.x / 32; row < count; row += step) {
    C sum = 0;
    for (int k = lane; k < rows.head_dim; k += 32) {
      sum += widen(rows.out_gradient[row * rows.head_dim + k]) * widen(rows.out[row * rows.head_dim + k]);
    }
    sum = warp_sum(sum);
    const int64_t position = row / rows.heads;  // batch * length + query
    const int64_t pair = position / rows.length * rows.heads + row % rows.heads;
    if (lane == 0) rows.delta[pair * rows.length + position % rows.length] = sum;
  }
}

template <typename T>
Status make_delta(const Context& context, const char* name, const DeltaRows<T>& rows) {
  const int64_t count = static_cast<int64_t>(rows.batch) * rows.heads * rows.length;
  const int64_t blocks = std::min<int64_t>((count + 7) / 8, int64_t{64} * context.device.multiprocessors);
  if (blocks == 0) return ok_status();
  return launch({name, dim3(static_cast<unsigned>(blocks)), dim3(kSumThreads), 0, context.stream}, output_delta<T>, rows);
}

// position_gradient[p, h, :] = sum over splits of the partial ones.
template <typename T>
struct SumPositionGradient {
  RelativeGradientProblem<T> problem;

  __device__ void operator()(int64_t i) const {
    const int64_t width = static_cast<int64_t>(problem.forward.heads) * problem.forward.head_dim;
    Compute<T> sum = 0;
    for (int split = 0; split < problem.splits; ++split) sum += problem.partial[split * problem.forward.position_rows * width + i];
    problem.position_gradient[i / width * problem.forward.position_stride + i % width] = narrow<T>(sum);
  }
};

// The same from sums of dU^T Q: scale * (their sum + dd v).
template <typename T>
struct SumDiagonalGradient {
  RelativeGradientProblem<T> problem;

  __device__ void operator()(int64_t i) const {
    const RelativeProblem<T>& forward = problem.forward;
    const int column = static_cast<int>(i % forward.head_dim);
    const int64_t row = i / forward.head_dim % forward.position_rows;  // i is [heads, position_rows, head_dim]
    const int64_t head = i / forward.head_dim / forward.position_rows;
    const int64_t rows = static_cast<int64_t>(forward.heads) * forward.position_rows;
    const int64_t first = head * forward.position_rows + row;
    Compute<T> sum = 0, total = 0;
    for (int split = 0; split < problem.splits; ++split) {
      sum += problem.partial[(split * rows + first) * problem.padded_head_dim + column];
      if (forward.position_bias != nullptr) total += problem.partial_sums[split * rows + first];
    }
    const int64_t at = head * forward.head_dim + column;
    if (forward.position_bias != nullptr) sum += total * widen(forward.position_bias[at]);
    problem.position_gradient[row * forward.position_stride + at] = narrow<T>(forward.scale * sum);
  }
};

// out[block, column] = scale * sum over n of weight(n) * row(n)[column], 256 / width rows at a time. `Source` has for a block:
// count, weight(n), row(n).
template <typename T, typename Source>
__global__ void __launch_bounds__(kSumThreads, 4) weighted_row_sum(const Source source, int columns, Compute<T> scale, Compute<T>* out) {
  using C = Compute<T>;
  XL_SHARED(partial, C[kSumThreads]);
  const int width = columns <= 32 ? 32 : columns <= 64 ? 64 : columns <= 128 ? 128 : 256;
  const int column = static_cast<int>(threadIdx.x) % width;
  const int block = static_cast<int>(blockIdx.x);
  C sum = 0;
  for (int n = static_cast<int>(threadIdx.x) / width; n < source.count(); n += kSumThreads / width) {
    if (column < columns) sum += source.weight(block, n) * widen(source.row(block, n)[column]);
  }
  partial[threadIdx.x] = sum;
  __syncthreads();
  if (static_cast<int>(threadIdx.x) >= columns) return;
  for (int other = static_cast<int>(threadIdx.x) + width; other < kSumThreads; other += width) sum += partial[other];
  out[static_cast<int64_t>(block) * columns + threadIdx.x] = scale * sum;
}

// Block = batch * heads + head: sum over keys of dc_j k_j.
template <typename T>
struct KeySums {
  RelativeGradientProblem<T> problem;

  __device__ int count() const { return problem.forward.band.keys; }
  __device__ Compute<T> weight(int pair, int j) const {
    return problem.key_sums[static_cast<int64_t>(pair) * problem.forward.band.keys + j];
  }
  __device__ const T* row(int pair, int j) const {
    const int heads = problem.forward.heads;
    return problem.forward.key.row(pair / heads, j, pair % heads * problem.forward.head_dim);
  }
};

// Block = head: sum over positions of dd_p r_p.
template <typename T>
struct PositionSums {
  RelativeGradientProblem<T> problem;

  __device__ int count() const { return problem.forward.position_rows; }
  __device__ Compute<T> weight(int head, int row) const {
    const RelativeProblem<T>& forward = problem.forward;
    Compute<T> sum = 0;
    for (int split = 0; split < problem.splits; ++split) {
      sum += problem.partial_sums[(static_cast<int64_t>(split) * forward.heads + head) * forward.position_rows + row];
    }
    return sum;
  }
  __device__ const T* row(int head, int row) const {
    return problem.forward.position + row * problem.forward.position_stride + head * problem.forward.head_dim;
  }
};

// out[i] = sum over n of parts[n * size + i]
template <typename T>
struct SumParts {
  const Compute<T>* parts;
  int count;
  int64_t size;
  T* out;

  __device__ void operator()(int64_t i) const {
    Compute<T> sum = 0;
    for (int n = 0; n < count; ++n) sum += parts[n * size + i];
    out[i] = narrow<T>(sum);
  }
};

// du from the sums over queries of dS, and dv from those along diagonals.
template <typename T>
Status sum_bias_gradients(const Context& context, const char* name, const RelativeGradientProblem<T>& problem, T* content, T* position) {
  using C = Compute<T>;
  const RelativeProblem<T>& forward = problem.forward;
  const int64_t width = static_cast<int64_t>(forward.heads) * forward.head_dim;
  Status status = ok_status();
  if (content != nullptr) {
    C* const parts = context.workspace.allocate<C>(forward.batch * width);
    const int64_t pairs = static_cast<int64_t>(forward.batch) * forward.heads;
    if (pairs > 0) {
      status = launch({name, dim3(static_cast<unsigned>(pairs)), dim3(kSumThreads), 0, context.stream}, weighted_row_sum<T, KeySums<T>>,
                      KeySums<T>{problem}, forward.head_dim, forward.scale, parts);
    }
    if (status.ok()) status = for_each(context, name, width, SumParts<T>{parts, forward.batch, width, content});
  }
  if (position != nullptr && status.ok() && forward.heads > 0) {
    C* const sums = context.workspace.allocate<C>(width);
    status = launch({name, dim3(static_cast<unsigned>(forward.heads)), dim3(kSumThreads), 0, context.stream},
                    weighted_row_sum<T, PositionSums<T>>, PositionSums<T>{problem}, forward.head_dim, forward.scale, sums);
    if (status.ok()) status = for_each(context, name, width, SumParts<T>{sums, 1, width, position});
  }
  return status;
}

}  // namespace xlformers::cuda
