// Tiles of the gradient of permutation attention on the tensor cores.
#pragma once

#include "cuda/permutation_tensor.cuh"
#include "cuda/permutation_tensor_gradient.h"
#include "cuda/relative_tensor_gradient.cuh"

namespace xlformers::cuda {

// Not held: fragments of queries and gradients of out come from shared memory in each step, where the registers are needed for something
// else.
template <typename T, int D, bool kConsecutive, bool kHeld>
struct PermutationTensorGradientBlock : PermutationTensorBlock<T, D, kConsecutive> {
  using Base = PermutationTensorBlock<T, D, kConsecutive>;
  using Scores = typename Base::Scores;
  static constexpr int kKeys = Base::kKeys, kKeyTiles = Base::kKeyTiles;

  typename Base::Fragments out_gradients;
  const T* shared_queries;  // of the block's rows, where they are not held
  const T* shared_out_gradients;
  float value_scale;
  float shift[2], delta[2];  // p = 2^(exponent - shift), dS = p (dP kept - delta)
  bool blind[2];             // the lane's row of a half sees nothing

  __device__ PermutationTensorGradientBlock(const PermutationTensorProblem<T>& tensor, const TensorGradientStream<T>& gradient,
                                            const typename Base::Shared& shared, typename Base::Rows& rows, int pair, int tile,
                                            const T* queries_in_shared = nullptr, const T* out_gradients_in_shared = nullptr)
      : Base(tensor, gradient.stream, shared, rows, pair, tile),
        shared_queries(queries_in_shared),
        shared_out_gradients(out_gradients_in_shared),
        value_scale(this->head.head_scale() * static_cast<float>(gradient.stream.dropout.scale)) {
    if constexpr (kHeld) {
      this->load_queries();
      this->load_fragments([&](int r) { return out_gradient(gradient, this->own + r); }, out_gradients);
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int i = this->row(half);
      const bool present = rows.present(i);
      const int64_t at = static_cast<int64_t>(pair) * gradient.stream.length + rows.row[i];
      const float log_sum_exp = present ? gradient.stream.log_sum_exp[at] : 0.0f;
      delta[half] = present ? gradient.delta[at] : 0.0f;
      blind[half] = log_sum_exp < static_cast<float>(kBlind);
      shift[half] = log_sum_exp * kLog2E;
    }
  }

  // Of row i of the block.
  __device__ const T* out_gradient(const TensorGradientStream<T>& gradient, int i) const {
    return this->rows.present(i) ? gradient.out_gradient.row(this->head.batch, this->rows.row[i], this->head.column()) : nullptr;
  }

  // As seen(): a row that saw nothing has used every key.
  __device__ uint32_t used(int key0, int stage) const {
    uint32_t bits = this->seen(key0, stage);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      if (!blind[half]) continue;
#pragma unroll
      for (int n = 0; n < kKeyTiles; ++n) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          if (key0 + this->column(n, e) < this->keys()) bits |= 1u << (8 * half + 2 * n + e);
        }
      }
    }
    return bits;
  }

  // probabilities = head_scale dropout(P), gradients[n] = dS of the lane's elements of tile n, of a step whose scores the warp has not made.
  __device__ void make(int key0, int stage, bool follows, uint32_t used, Scores& probabilities, float (*gradients)[4]) {
    const AttentionDropout& dropout = this->stream.dropout;
#pragma unroll
    for (int n = 0; n < kKeyTiles; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) probabilities[n][e] = gradients[n][e] = 0;
    }
    if constexpr (!kHeld) reload(shared_queries, this->queries);
    this->add_scores(key0, stage, follows, probabilities);
    if constexpr (!kHeld) reload(shared_out_gradients, out_gradients);
    uint32_t kept[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      kept[half] = dropout.active() ? kept_bits(dropout, this->head.pair(), this->rows.row[this->row(half)], key0) : ~0u;
    }
#pragma unroll
    for (int n = 0; n < kKeyTiles; ++n) {
      this->multiply(out_gradients, this->value_tile(stage) + 8 * n * Base::kStride, gradients[n]);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          float& probability = probabilities[n][2 * half + e];
          float& gradient = gradients[n][2 * half + e];
          float p = exp2_approx(this->exponent(probability, half, n, e, stage) - shift[half]);
          if (blind[half]) p = 1.0f / static_cast<float>(this->keys());
          if ((used >> (8 * half + 2 * n + e) & 1u) == 0) p = 0;
          const float factor = (kept[half] >> (2 * n + e) & 1u) != 0 ? value_scale : 0.0f;
          probability = p * factor;
          gradient = p * (gradient * factor - delta[half]);
        }
      }
    }
  }

 private:
  __device__ void reload(const T* tile, typename Base::Fragments& to) const {
#pragma unroll
    for (int k = 0; k < Base::kSteps; ++k) load_left<D>(tile + this->own * Base::kStride, k, to[k]);
  }
};

}  // namespace xlformers::cuda
