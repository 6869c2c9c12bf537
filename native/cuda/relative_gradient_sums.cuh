// The small sums around the gradient kernels of relative attention. All run in a fixed order.
#pragma once

#include "cuda/attention_scalar_tile.cuh"
#include "cuda/elementwise.cuh"
#include "cuda/relative_gradient_problem.cuh"

namespace xlformers::cuda {

constexpr int kSumThreads = 256;

// delta[b, h, i] = dO_i . O_i: a warp a row. `out` carries the head's scale already. Reads both once: 2 * sizeof(T) bytes an element.
template <typename T>
__global__ void __launch_bounds__(kSumThreads) relative_delta(const RelativeGradientProblem<T> problem) {
  using C = Compute<T>;
  const RelativeProblem<T>& forward = problem.forward;
  const int64_t rows = static_cast<int64_t>(forward.batch) * forward.query_length * forward.heads;
  const int64_t step = static_cast<int64_t>(gridDim.x) * (kSumThreads / 32);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  for (int64_t row = static_cast<int64_t>(blockIdx.x) * (kSumThreads / 32) + threadIdx.x / 32; row < rows; row += step) {
    C sum = 0;
    for (int k = lane; k < forward.head_dim; k += 32) {
      sum += widen(problem.out_gradient[row * forward.head_dim + k]) * widen(forward.out[row * forward.head_dim + k]);
    }
    sum = warp_sum(sum);
    const int64_t position = row / forward.heads;  // batch * query_length + query
    const int64_t pair = position / forward.query_length * forward.heads + row % forward.heads;
    if (lane == 0) problem.delta[pair * forward.query_length + position % forward.query_length] = sum;
  }
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

}  // namespace xlformers::cuda
