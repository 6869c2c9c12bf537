// Dropout, residual sum and layer normalisation in one pass over device memory: a block holds its row in registers.
//
// Statistics as on the CPU (native/cpu/layer_norm.cc): deviations from a first mean, whose own mean corrects both
// (Chan, Golub & LeVeque 1983). Mean and rstd are fp32 for bf16 and fp16.
//
// Reads x and the residual, writes s and y: 8 bytes per bf16 element, some 30 operations, 100 integer ones per eight
// for dropout. 12288 x 1024 in bf16: 101 MB, 34 us on an H100.
#pragma once

#include "core/operators.h"
#include "cuda/elementwise.cuh"
#include "cuda/row_elements.cuh"

namespace xlformers::cuda {

template <typename T>
struct LayerNormArgs {
  int64_t rows, columns;
  Compute<T> epsilon, scale;
  DropoutMask mask;
  const T *x, *residual, *weight, *bias;
  T* sum;
  Compute<T>*mean, *rstd;
  T* y;
  bool packed;  // rows that registers hold, in packs
};

// By a block, or one of its groups, of 128 threads; y: where the normalised row goes. held_turns: turns of a row in
// registers, which cover it; 0: a row of any length, whose sum is made again for each of the three passes. The same
// numbers come out whichever it is.
template <bool packed, int held_turns, int groups = 1, typename T>
__device__ __forceinline__ void norm_row(const LayerNormArgs<T>& args, int64_t row, T* y) {
  using C = Compute<T>;
  const RowElements<packed, groups> elements = {args.columns};
  const C count = static_cast<C>(args.columns);
  const int64_t start = row * args.columns;
  C held[held_turns > 0 ? held_turns : 1][kSlots];
  const auto make = [&](int64_t turn, C(&s)[kSlots]) {
    elements.load(args.x + start, turn, s);
    drop(elements.kept(args.mask, start, turn), args.scale, s);
    if (args.residual == nullptr) return;
    C residual[kSlots];
    elements.load(args.residual + start, turn, residual);
#pragma unroll
    for (int k = 0; k < kSlots; ++k) s[k] += residual[k];
  };
  // body(turn, s) for the turns of the row.
  const auto each_turn = [&](auto body) {
    if constexpr (held_turns > 0) {
#pragma unroll
      for (int turn = 0; turn < held_turns; ++turn) body(turn, held[turn]);
    } else {
      for (int64_t turn = 0; turn < elements.turns(); ++turn) {
        make(turn, held[0]);
        body(turn, held[0]);
      }
    }
  };
  if constexpr (held_turns > 0) {
#pragma unroll
    for (int turn = 0; turn < held_turns; ++turn) make(turn, held[turn]);
  }

  C total = 0;
  each_turn([&](int64_t turn, const C(&s)[kSlots]) {
    if (args.sum != nullptr) elements.store(args.sum + start, turn, s);
#pragma unroll
    for (int k = 0; k < kSlots; ++k) total += s[k];  // zero beyond the row
  });
  const C center = block_sum<kRowThreads, groups>(total, C{0}).x / count;

  C deviations = 0, squares = 0;
  each_turn([&](int64_t turn, const C(&s)[kSlots]) {
#pragma unroll
    for (int k = 0; k < kSlots; ++k) {
      const C deviation = elements.inside(turn, k) ? s[k] - center : C{0};
      deviations += deviation;
      squares += deviation * deviation;
    }
  });
  const auto sums = block_sum<kRowThreads, groups>(deviations, squares);
  const C shift = sums.x / count, variance = sums.y / count - shift * shift;
  const C rstd = C{1} / square_root((variance < C{0} ? C{0} : variance) + args.epsilon);

  each_turn([&](int64_t turn, const C(&s)[kSlots]) {
    C weight[kSlots], bias[kSlots];
    elements.load(args.weight, turn, weight);
    elements.load(args.bias, turn, bias);
#pragma unroll
    for (int k = 0; k < kSlots; ++k) weight[k] = (s[k] - center - shift) * rstd * weight[k] + bias[k];
    elements.store(y, turn, weight);
  });
  if (elements.thread() == 0) {
    if (args.mean != nullptr) args.mean[row] = center + shift;
    if (args.rstd != nullptr) args.rstd[row] = rstd;
  }
}

// Grid: a block per row.
template <typename T, bool packed, int held_turns>
__global__ void __launch_bounds__(kRowThreads) layer_norm_rows(LayerNormArgs<T> args) {
  for (int64_t row = blockIdx.x; row < args.rows; row += gridDim.x) {
    norm_row<packed, held_turns>(args, row, args.y + row * args.columns);
  }
}

template <typename T>
LayerNormArgs<T> layer_norm_args(const LayerNormParams& params) {
  LayerNormArgs<T> args = {};
  args.rows = params.rows;
  args.columns = params.columns;
  args.epsilon = static_cast<Compute<T>>(params.epsilon);
  args.mask = dropout_mask(params.dropout, params.seed, params.offset);
  args.scale = static_cast<Compute<T>>(args.mask.scale);
  args.x = static_cast<const T*>(params.x);
  args.residual = static_cast<const T*>(params.residual);
  args.weight = static_cast<const T*>(params.weight);
  args.bias = static_cast<const T*>(params.bias);
  args.sum = static_cast<T*>(params.sum);
  args.mean = static_cast<Compute<T>*>(params.mean);
  args.rstd = static_cast<Compute<T>*>(params.rstd);
  args.y = static_cast<T*>(params.y);
  args.packed = args.columns <= 2 * kTurn &&
                rows_packed(args.columns, args.x, args.residual, args.weight, args.bias, args.sum, args.y);
  return args;
}

template <typename T>
Status run_layer_norm(const LayerNormParams& params, void* stream) {
  if (params.rows <= 0 || params.columns <= 0) return ok_status();
  const LayerNormArgs<T> args = layer_norm_args<T>(params);
  void (*kernel)(LayerNormArgs<T>) = layer_norm_rows<T, false, 0>;
  if (args.packed && args.columns <= kTurn) {
    kernel = layer_norm_rows<T, true, 1>;
  } else if (args.packed) {
    kernel = layer_norm_rows<T, true, 2>;
  } else if (args.columns <= kTurn) {
    kernel = layer_norm_rows<T, false, 1>;
  }
  const auto blocks = static_cast<unsigned>(std::min<int64_t>(params.rows, INT32_MAX));
  return launch({"layer_norm", dim3(blocks), dim3(kRowThreads), 0, stream}, kernel, args);
}

}  // namespace xlformers::cuda
