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

// Who shares out a row: a block.
struct BlockOfRow {
  static constexpr int kParts = 1;  // that a thread has, each what a thread of a block has
  template <bool packed, int number>
  using Elements = RowElements<packed>;

  template <typename C>
  __device__ static auto sums(const C (&a)[kParts], const C (&b)[kParts]) {
    return block_sum<kRowThreads>(a[0], b[0]);
  }
};

// Or a warp, which takes the parts of a block's warps in turn: the same sums in the same order, without a barrier.
struct WarpOfRow {
  static constexpr int kParts = kRowThreads / 32;
  template <bool packed, int number>
  using Elements = RowElements<packed, number>;

  template <typename C>
  __device__ static auto sums(const C (&a)[kParts], const C (&b)[kParts]) {
    decltype(block_sum<kRowThreads>(C{}, C{})) sum = {0, 0};
#pragma unroll
    for (int number = 0; number < kParts; ++number) {
      sum.x += warp_sum(a[number]);
      sum.y += warp_sum(b[number]);
    }
    return sum;
  }
};

// body(number, elements) for each part of a row that a thread has.
template <typename Threads, bool packed, int number = 0, typename Body>
__device__ __forceinline__ void for_parts(int64_t columns, const Body& body) {
  body(number, typename Threads::template Elements<packed, number>{columns});
  if constexpr (number + 1 < Threads::kParts) for_parts<Threads, packed, number + 1>(columns, body);
}

// y: where the normalised row goes. held_turns: turns of a row in registers, which cover it; 0: a row of any length,
// whose sum is made again for each of the three passes.
template <typename Threads, bool packed, int held_turns, typename T>
__device__ __forceinline__ void norm_row(const LayerNormArgs<T>& args, int64_t row, T* y) {
  using C = Compute<T>;
  constexpr int kParts = Threads::kParts;
  const C count = static_cast<C>(args.columns);
  const int64_t start = row * args.columns;
  C held[held_turns > 0 ? held_turns : 1][kParts][kSlots];
  const auto make = [&](int64_t turn, C(&s)[kParts][kSlots]) {
    for_parts<Threads, packed>(args.columns, [&](int number, const auto& elements) {
      elements.load(args.x + start, turn, s[number]);
      drop(elements.kept(args.mask, start, turn), args.scale, s[number]);
      if (args.residual == nullptr) return;
      C residual[kSlots];
      elements.load(args.residual + start, turn, residual);
#pragma unroll
      for (int k = 0; k < kSlots; ++k) s[number][k] += residual[k];
    });
  };
  // body(number, elements, turn, s) for the parts of the turns of the row.
  const auto each_turn = [&](const auto& body) {
    const auto each_part = [&](int64_t turn, const C(&s)[kParts][kSlots]) {
      for_parts<Threads, packed>(args.columns,
                                 [&](int number, const auto& elements) { body(number, elements, turn, s[number]); });
    };
    if constexpr (held_turns > 0) {
#pragma unroll
      for (int turn = 0; turn < held_turns; ++turn) each_part(turn, held[turn]);
    } else {
      for (int64_t turn = 0; turn < RowElements<packed>{args.columns}.turns(); ++turn) {
        make(turn, held[0]);
        each_part(turn, held[0]);
      }
    }
  };
  if constexpr (held_turns > 0) {
#pragma unroll
    for (int turn = 0; turn < held_turns; ++turn) make(turn, held[turn]);
  }

  C totals[kParts] = {}, none[kParts] = {};
  each_turn([&](int number, const auto& elements, int64_t turn, const C(&s)[kSlots]) {
    if (args.sum != nullptr) elements.store(args.sum + start, turn, s);
#pragma unroll
    for (int k = 0; k < kSlots; ++k) totals[number] += s[k];  // zero beyond the row
  });
  const C center = Threads::sums(totals, none).x / count;

  C deviations[kParts] = {}, squares[kParts] = {};
  each_turn([&](int number, const auto& elements, int64_t turn, const C(&s)[kSlots]) {
#pragma unroll
    for (int k = 0; k < kSlots; ++k) {
      const C deviation = elements.inside(turn, k) ? s[k] - center : C{0};
      deviations[number] += deviation;
      squares[number] += deviation * deviation;
    }
  });
  const auto sums = Threads::sums(deviations, squares);
  const C shift = sums.x / count, variance = sums.y / count - shift * shift;
  const C rstd = C{1} / square_root((variance < C{0} ? C{0} : variance) + args.epsilon);

  each_turn([&](int, const auto& elements, int64_t turn, const C(&s)[kSlots]) {
    C weight[kSlots], bias[kSlots];
    elements.load(args.weight, turn, weight);
    elements.load(args.bias, turn, bias);
#pragma unroll
    for (int k = 0; k < kSlots; ++k) weight[k] = (s[k] - center - shift) * rstd * weight[k] + bias[k];
    elements.store(y, turn, weight);
  });
  if (threadIdx.x == 0) {
    if (args.mean != nullptr) args.mean[row] = center + shift;
    if (args.rstd != nullptr) args.rstd[row] = rstd;
  }
}

// Grid: a block per row.
template <typename T, bool packed, int held_turns>
__global__ void __launch_bounds__(kRowThreads) layer_norm_rows(LayerNormArgs<T> args) {
  for (int64_t row = blockIdx.x; row < args.rows; row += gridDim.x) {
    norm_row<BlockOfRow, packed, held_turns>(args, row, args.y + row * args.columns);
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
