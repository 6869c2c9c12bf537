// Operands for the tensor cores: used where they lie when their rows are 16-byte aligned, else copied into rows that are.
#pragma once

#include "cuda/elementwise.cuh"
#include "cuda/relative_tensor.cuh"

namespace xlformers::cuda {

// Piece i of 8 columns: rows(batch, index, column) copied to out [batch, length, heads, padded], zeros from head_dim on.
template <typename T, typename Rows>
struct PackRows {
  Rows rows;
  int length, heads, head_dim, pieces;
  T* out;

  __device__ void operator()(int64_t i) const {
    const int piece = static_cast<int>(i % pieces);
    const int64_t row = i / pieces;  // [batch, length, heads]
    const int head = static_cast<int>(row % heads);
    const int64_t place = row / heads;
    const T* const from = rows.row(static_cast<int>(place / length), static_cast<int>(place % length), head * head_dim);
    uint32_t words[4];
#pragma unroll
    for (int w = 0; w < 4; ++w) {
      const int column = 8 * piece + 2 * w;
      words[w] = pack<T>(column < head_dim ? to_float(from[column]) : 0.0f, column + 1 < head_dim ? to_float(from[column + 1]) : 0.0f);
    }
    *reinterpret_cast<uint4*>(out + 8 * i) = make_uint4(words[0], words[1], words[2], words[3]);
  }
};

template <typename T>
bool is_aligned(const StridedRows<const T>& rows) {
  return reinterpret_cast<uintptr_t>(rows.first) % 16 == 0 && rows.row_stride * sizeof(T) % 16 == 0 &&
         rows.batch_stride * sizeof(T) % 16 == 0;
}

// Keys, values and positions of all heads.
template <typename T>
bool keys_are_aligned(const RelativeProblem<T>& problem) {
  const StridedRows<const T> positions = {problem.position, problem.position_stride, 0};
  return problem.head_dim * sizeof(T) % 16 == 0 && is_aligned(positions) && is_aligned(problem.key.current) &&
         is_aligned(problem.value.current) &&
         (problem.band.memory == 0 || (is_aligned(problem.key.memory) && is_aligned(problem.value.memory)));
}

// Rows with the problem's head size made into packed ones, in workspace memory.
template <typename T, typename Rows>
Status pack_rows(const Context& context, const char* name, const Rows& rows, int64_t batch, int64_t length,
                 const RelativeProblem<T>& problem, StridedRows<const T>* packed) {
  const int pieces = (problem.head_dim + 7) / 8;
  const int64_t row = static_cast<int64_t>(problem.heads) * pieces * 8;
  T* const out = context.workspace.allocate<T>(batch * length * row);
  *packed = {out, row, length * row};
  return for_each(context, name, batch * length * problem.heads * pieces,
                  PackRows<T, Rows>{rows, static_cast<int>(length), problem.heads, problem.head_dim, pieces, out});
}

template <typename T>
Status pack_joined(const Context& context, const char* name, const RelativeProblem<T>& problem, JoinedRows<const T>* rows) {
  StridedRows<const T> packed;
  const Status status = pack_rows(context, name, *rows, problem.batch, problem.band.keys, problem, &packed);
  *rows = {packed, packed, 0};
  return status;
}

// terms[n] = bias . row of item n: eight lanes an item, 16 bytes a lane. Reads each row once.
template <typename T, typename Rows>
__global__ void __launch_bounds__(kElementThreads) row_terms(const Rows rows, int64_t count, const T* bias, int head_dim, float* terms) {
  const int lane = static_cast<int>(threadIdx.x) % 8;
  const int64_t step = static_cast<int64_t>(gridDim.x) * (kElementThreads / 8);
  // Whole warps stay together for the shuffles.
  for (int64_t first = static_cast<int64_t>(blockIdx.x) * (kElementThreads / 8); first < count; first += step) {
    const int64_t n = first + threadIdx.x / 8;
    float sum = 0;
    if (n < count) {
      const T* const row = rows.row(n);
      const T* const head_bias = bias + rows.head(n) * head_dim;
      for (int column = 8 * lane; column < head_dim; column += 64) {
        const uint4 piece = *reinterpret_cast<const uint4*>(row + column);
        const uint32_t words[4] = {piece.x, piece.y, piece.z, piece.w};
#pragma unroll
        for (int w = 0; w < 4; ++w) {
          if (column + 2 * w < head_dim) sum += to_float(head_bias[column + 2 * w]) * low_half<T>(words[w]);
          if (column + 2 * w + 1 < head_dim) sum += to_float(head_bias[column + 2 * w + 1]) * low_half<T>(words[w] >> 16);
        }
      }
    }
#pragma unroll
    for (int other = 4; other > 0; other /= 2) sum += __shfl_xor_sync(0xFFFFFFFFu, sum, other);
    if (n < count && lane == 0) terms[n] = sum;
  }
}

// Items [heads, position_rows]
template <typename T>
struct PositionItems {
  RelativeProblem<T> rows;

  __device__ int head(int64_t n) const { return static_cast<int>(n / rows.position_rows); }
  __device__ const T* row(int64_t n) const {
    return rows.position + n % rows.position_rows * rows.position_stride + head(n) * rows.head_dim;
  }
};

// Items [batch, heads, keys]
template <typename T>
struct KeyItems {
  RelativeProblem<T> rows;

  __device__ int head(int64_t n) const { return static_cast<int>(n / rows.band.keys % rows.heads); }
  __device__ const T* row(int64_t n) const {
    return rows.key.row(static_cast<int>(n / rows.band.keys / rows.heads), static_cast<int>(n % rows.band.keys), head(n) * rows.head_dim);
  }
};

// Terms of all items, in workspace memory; null without a bias.
template <typename T, typename Items>
Status make_terms(const Context& context, const char* name, const Items& items, int64_t count, const T* bias, int head_dim,
                  const float** terms) {
  *terms = nullptr;
  if (bias == nullptr || count == 0) return ok_status();
  float* const made = context.workspace.allocate<float>(count);
  *terms = made;
  const int64_t blocks = std::min<int64_t>((count + 31) / 32, int64_t{32} * context.device.multiprocessors);
  return launch({name, dim3(static_cast<unsigned>(blocks)), dim3(kElementThreads), 0, context.stream}, row_terms<T, Items>, items, count,
                bias, head_dim, made);
}

// Positions, keys and values of `problem` packed, in `rows`, a copy of it.
template <typename T>
Status pack_keys(const Context& context, const char* name, const RelativeProblem<T>& problem, RelativeProblem<T>* rows) {
  const StridedRows<const T> positions = {problem.position, problem.position_stride, 0};
  StridedRows<const T> packed_positions;
  Status status = pack_rows(context, name, positions, 1, problem.position_rows, problem, &packed_positions);
  rows->position = packed_positions.first;
  rows->position_stride = packed_positions.row_stride;
  if (status.ok()) status = pack_joined(context, name, problem, &rows->key);
  if (status.ok()) status = pack_joined(context, name, problem, &rows->value);
  rows->head_dim = (problem.head_dim + 7) / 8 * 8;
  return status;
}

template <typename T>
Status make_position_terms(const Context& context, const char* name, const RelativeProblem<T>& rows, int head_dim, const float** terms) {
  return make_terms(context, name, PositionItems<T>{rows}, static_cast<int64_t>(rows.heads) * rows.position_rows, rows.position_bias, head_dim,
                    terms);
}

template <typename T>
Status make_tensor_problem(const Context& context, const char* name, const RelativeProblem<T>& problem, TensorProblem<T>* tensor) {
  *tensor = {problem, problem.head_dim, nullptr};
  RelativeProblem<T>& rows = tensor->rows;
  Status status = ok_status();
  if (!keys_are_aligned(problem) || !is_aligned(problem.query)) {
    status = pack_rows(context, name, problem.query, problem.batch, problem.query_length, problem, &rows.query);
    if (status.ok()) status = pack_keys(context, name, problem, &rows);
  }
  return status.ok() ? make_position_terms(context, name, rows, problem.head_dim, &tensor->position_terms) : status;
}

}  // namespace xlformers::cuda
