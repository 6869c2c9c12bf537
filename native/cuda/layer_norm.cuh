// Dropout, residual sum and layer normalisation in one pass over device memory: a block holds its row in shared memory
// as fp32.
//
// Statistics as on the CPU (native/cpu/layer_norm.cc): deviations from a first mean, whose own mean corrects both
// (Chan, Golub & LeVeque 1983). Mean and rstd are fp32 whatever T is.
#pragma once

#include "core/operators.h"
#include "core/philox.h"
#include "cuda/reduce.cuh"

namespace xlformers::cuda {

constexpr int kLayerNormThreads = 128;

template <typename T>
struct LayerNormArgs {
  int columns;
  float epsilon;
  uint32_t dropout_threshold;
  float dropout_scale;
  PhiloxStream stream;
  const T *x, *residual, *weight, *bias;
  T* sum;
  float *mean, *rstd;
  T* y;
};

// Element i of a row of `columns`, and whether dropout keeps it: body(i, kept). Threads take eight elements at a time,
// those of one Philox block, which begins at a multiple of eight of the whole tensor.
template <bool dropped, typename T, typename Body>
__device__ __forceinline__ void for_row(const LayerNormArgs<T>& args, int64_t start, Body body) {
  const int64_t first_group = start >> 3, end_group = (start + args.columns + 7) >> 3;
  for (int64_t group = first_group + threadIdx.x; group < end_group; group += kLayerNormThreads) {
    PhiloxBlock block = {};
    if constexpr (dropped)
      block = args.stream.block(static_cast<uint32_t>(group), static_cast<uint32_t>(group >> 32), 0);
#pragma unroll
    for (int lane = 0; lane < 8; ++lane) {
      const int64_t i = group * 8 + lane - start;
      if (i < 0 || i >= args.columns) continue;
      body(static_cast<int>(i), !dropped || philox_lane16(block, lane) >= args.dropout_threshold);
    }
  }
}

// Grid: a block per row. Dynamic shared memory: float[columns].
template <typename T, bool dropped>
__global__ void __launch_bounds__(kLayerNormThreads) layer_norm(LayerNormArgs<T> args) {
  XL_DYNAMIC_SHARED(memory);
  float* s = reinterpret_cast<float*>(memory);
  const int64_t start = static_cast<int64_t>(blockIdx.x) * args.columns;

  float total = 0;
  for_row<dropped>(args, start, [&](int i, bool kept) {
    float value = to_float(args.x[start + i]);
    if constexpr (dropped) value = kept ? value * args.dropout_scale : 0.0f;
    if (args.residual != nullptr) value += to_float(args.residual[start + i]);
    if (args.sum != nullptr) args.sum[start + i] = from_float<T>(value);
    s[i] = value;
    total += value;
  });
  const float count = static_cast<float>(args.columns);
  const float center = block_sum<kLayerNormThreads>(total, 0.0f).x / count;

  float deviations = 0, squares = 0;
  for (int i = static_cast<int>(threadIdx.x); i < args.columns; i += kLayerNormThreads) {
    const float deviation = s[i] - center;
    deviations += deviation;
    squares += deviation * deviation;
  }
  const float2 sums = block_sum<kLayerNormThreads>(deviations, squares);
  const float shift = sums.x / count;
  const float rstd = 1.0f / sqrtf(fmaxf(sums.y / count - shift * shift, 0.0f) + args.epsilon);

  for (int i = static_cast<int>(threadIdx.x); i < args.columns; i += kLayerNormThreads) {
    const float normal = (s[i] - center - shift) * rstd;
    args.y[start + i] = from_float<T>(normal * to_float(args.weight[i]) + to_float(args.bias[i]));
  }
  if (threadIdx.x == 0) {
    if (args.mean != nullptr) args.mean[blockIdx.x] = center + shift;
    if (args.rstd != nullptr) args.rstd[blockIdx.x] = rstd;
  }
}

template <typename T>
Status run_layer_norm(const LayerNormParams& params, Stream stream) {
  if (params.rows <= 0 || params.columns <= 0) return ok_status();
  constexpr int64_t kMostColumns =
      99 * 1024 / 4 - 64;  // a row fits into the shared memory of every device from sm_80 on
  if (params.columns > kMostColumns || params.rows > INT32_MAX) {
    return make_status(StatusCode::unsupported, "layer_norm: %lld rows of %lld columns, expected at most %d of %lld",
                       static_cast<long long>(params.rows), static_cast<long long>(params.columns), INT32_MAX,
                       static_cast<long long>(kMostColumns));
  }
  LayerNormArgs<T> args = {};
  args.columns = static_cast<int>(params.columns);
  args.epsilon = static_cast<float>(params.epsilon);
  args.dropout_threshold = dropout_threshold(params.dropout);
  args.dropout_scale = static_cast<float>(1 / (1 - params.dropout));
  args.stream = {params.seed, params.offset};
  args.x = static_cast<const T*>(params.x);
  args.residual = static_cast<const T*>(params.residual);
  args.weight = static_cast<const T*>(params.weight);
  args.bias = static_cast<const T*>(params.bias);
  args.sum = static_cast<T*>(params.sum);
  args.mean = static_cast<float*>(params.mean);
  args.rstd = static_cast<float*>(params.rstd);
  args.y = static_cast<T*>(params.y);
  const LaunchShape shape = {"layer_norm", dim3(static_cast<unsigned>(params.rows)), dim3(kLayerNormThreads),
                             static_cast<size_t>(params.columns) * sizeof(float), stream};
  return args.dropout_threshold > 0 ? launch(shape, layer_norm<T, true>, args)
                                    : launch(shape, layer_norm<T, false>, args);
}

}  // namespace xlformers::cuda
