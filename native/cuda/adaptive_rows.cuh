// What is done to the rows of a chunk: hidden states are gathered, logits summed or turned into gradients, gradients
// scattered.
#pragma once

#include "cuda/adaptive_labels.cuh"

namespace xlformers::cuda {

constexpr int kCopyThreads = 64;

// out[i, :] = hidden[row of begin + i, :]. Reads and writes a row of
// d_model elements each: 2048 x 1024 in bf16 are 8.4 MB, 3 us.
template <typename T>
__global__ void __launch_bounds__(kCopyThreads)
    gather_rows(const LabelledRows rows, int64_t begin, int64_t columns, const T* hidden, T* out) {
  const int64_t i = blockIdx.x;
  if (!rows.holds(begin + i)) return;
  const T* const from = hidden + rows.row(begin + i) * columns;
  for_vectors<kCopyThreads>(from, columns, Compute<T>{0}, [&](int64_t first, Vector<T>& values) {
    store_vector(out + i * columns, first, columns, values);
  });
}

// out[row of begin + i, :] += share[i, :]. Reads two rows and writes one: 2048 x 1024 in bf16 are 12.6 MB, 4 us.
template <typename T>
__global__ void __launch_bounds__(kCopyThreads)
    add_scattered_rows(const LabelledRows rows, int64_t begin, int64_t columns, const T* share, T* out) {
  const int64_t i = blockIdx.x;
  if (!rows.holds(begin + i)) return;
  T* const to = out + rows.row(begin + i) * columns;
  for_vectors<kCopyThreads>(to, columns, Compute<T>{0}, [&](int64_t first, Vector<T>& values) {
#pragma unroll
    for (int k = 0; k < kVectorElements<T>; ++k) {
      if (first + k >= 0 && first + k < columns) values[k] += widen(share[i * columns + first + k]);
    }
    store_vector(to, first, columns, values);
  });
}

// A block of a chunk's logits, [size, columns] from column `first_column` of the softmax on.
template <typename T>
struct LogitBlock {
  LabelledRows rows;
  int64_t begin;  // the chunk's first row
  int64_t first_column, columns, stride;
  T* logits;
};

// Per row of a chunk, what its blocks of logits gave so far.
template <typename C>
struct ChunkSums {
  ExponentialSum<C>* sums;
  C* label_logits;
  C* log_sum_exp;
};

// Adds a block to the sums of its rows. The last block of the columns completes the log-sum-exp and, where `loss` is
// not null, gives the rows' losses, or adds them to those of the head. Reads the logits once: 800 x 20000 in bf16 are
// 32 MB, mostly in the L2 cache; 11 us from memory.
template <typename T, int threads>
__global__ void __launch_bounds__(threads, 2)
    sum_logits(const LogitBlock<T> block, const ChunkSums<Compute<T>> chunk, bool first, bool last, Compute<T>* loss) {
  using C = Compute<T>;
  const int64_t i = blockIdx.x;
  if (!block.rows.holds(block.begin + i)) return;
  const int64_t row = block.rows.row(block.begin + i);
  const bool head = block.rows.list == nullptr;
  const int64_t softmax_column = block.rows.column(row), column = softmax_column - block.first_column;
  if (softmax_column < 0) {
    if (threadIdx.x == 0 && last && loss != nullptr) loss[row] = 0;
    return;
  }
  const T* const logits = block.logits + i * block.stride;
  ExponentialSum<C> mine;
  add_row<threads>(mine, logits, block.columns);
  ExponentialSum<C> sum = block_sum_of<threads>(mine);
  if (threadIdx.x != 0) return;
  if (!first) sum.add(chunk.sums[i]);
  C label_logit = 0;
  const bool here = column >= 0 && column < block.columns;
  if (here) label_logit = widen(logits[column]);
  if (!last) {
    chunk.sums[i] = sum;
    if (here) chunk.label_logits[i] = label_logit;
    return;
  }
  if (!here) label_logit = chunk.label_logits[i];
  const C log_sum_exp = sum.logarithm();
  chunk.log_sum_exp[i] = log_sum_exp;
  if (loss == nullptr) return;
  const C part = log_sum_exp - label_logit;
  loss[row] = head ? part : loss[row] + part;
}

// logits -> g (softmax - one-hot), in place, with g the gradient of the row's loss; zeros for rows that do not count.
// Reads and writes the logits: 800 x 20000 in bf16 are 64 MB, 21 us from memory.
template <typename T, int threads>
__global__ void __launch_bounds__(threads, 2)
    turn_into_gradient(const LogitBlock<T> block, const Compute<T>* log_sum_exp, const Compute<T>* loss_gradient) {
  using C = Compute<T>;
  const int64_t i = blockIdx.x;
  if (!block.rows.holds(block.begin + i)) return;
  const int64_t row = block.rows.row(block.begin + i);
  const bool counts = block.rows.column(row) >= 0;
  const int64_t column = block.rows.column(row) - block.first_column;
  const C scale = counts ? loss_gradient[row] : C{0}, offset = counts ? log_sum_exp[i] : C{0};
  T* const logits = block.logits + i * block.stride;
  for_vectors<threads>(
      logits, block.columns, C{0},
      [&](int64_t first, Vector<T>& values) {
#pragma unroll
        for (int k = 0; k < kVectorElements<T>; ++k) {
          values[k] = counts ? scale * exp_of(values[k] - offset) - (first + k == column ? scale : C{0}) : C{0};
        }
        store_vector(logits, first, block.columns, values);
      },
      blockIdx.y, gridDim.y);
}

constexpr int kSumLanes = 32, kSumSlices = 8;

// out[columns] (+)= the block's column sums (a bias's gradient): thread (lane, slice) adds up the rows slice, slice +
// 8, ... of a vector of columns, and the slices are added in order. Reads the logits once: 800 x 20000 in bf16, 32 MB,
// mostly from the L2 cache.
template <typename T>
__global__ void __launch_bounds__(kSumLanes* kSumSlices)
    sum_columns(const LogitBlock<T> block, int64_t size, bool accumulate, T* out) {
  using C = Compute<T>;
  constexpr int kElements = kVectorElements<T>;
  XL_SHARED(partial, C[kSumSlices][kElements][kSumLanes]);
  const int lane = static_cast<int>(threadIdx.x), slice = static_cast<int>(threadIdx.y);
  // All rows begin at the same place within 16 bytes.
  const int before = static_cast<int>(reinterpret_cast<uintptr_t>(block.logits) / sizeof(T) % kElements);
  const int64_t first = (int64_t{blockIdx.x} * kSumLanes + lane) * kElements - before;
  C sums[kElements] = {};
  if (first < block.columns) {
    for (int64_t i = slice; i < size && block.rows.holds(block.begin + i); i += kSumSlices) {
      Vector<T> values;
      load_vector(block.logits + i * block.stride, first, block.columns, C{0}, values);
#pragma unroll
      for (int k = 0; k < kElements; ++k) sums[k] += values[k];
    }
  }
#pragma unroll
  for (int k = 0; k < kElements; ++k) partial[slice][k][lane] = sums[k];
  __syncthreads();
  for (int k = slice; k < kElements; k += kSumSlices) {
    if (first + k < 0 || first + k >= block.columns) continue;
    C sum = 0;
#pragma unroll
    for (int s = 0; s < kSumSlices; ++s) sum += partial[s][k][lane];
    T* const to = out + first + k;
    *to = narrow<T>(accumulate ? widen(*to) + sum : sum);
  }
}

}  // namespace xlformers::cuda
