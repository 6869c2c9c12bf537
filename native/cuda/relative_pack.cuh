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
  return reinterpret_cast<uintptr_t>(rows.first) % 16 == 0 && rows.row_stride % 8 == 0 && rows.batch_stride % 8 == 0;
}

// Rows with the problem's head size made into packed ones, in workspace memory.
template <typename T, typename Rows>
Status pack_rows(const Context& context, const char* name, const Rows& rows, int64_t batch, int64_t length, const RelativeProblem<T>& problem,
                 StridedRows<const T>* packed) {
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

// terms[h, p] = v_h . r_{p,h}
template <typename T>
struct PositionTerms {
  RelativeProblem<T> problem;
  float* terms;

  __device__ void operator()(int64_t i) const {
    const int head = static_cast<int>(i / problem.position_rows), row = static_cast<int>(i % problem.position_rows);
    const T* const position = problem.position + row * problem.position_stride + head * problem.head_dim;
    const T* const bias = problem.position_bias + head * problem.head_dim;
    float sum = 0;
    for (int k = 0; k < problem.head_dim; ++k) sum += to_float(bias[k]) * to_float(position[k]);
    terms[i] = sum;
  }
};

template <typename T>
Status make_tensor_problem(const Context& context, const char* name, const RelativeProblem<T>& problem, TensorProblem<T>* tensor) {
  *tensor = {problem, problem.head_dim, nullptr};
  RelativeProblem<T>& rows = tensor->rows;
  Status status = ok_status();
  if (problem.position_bias != nullptr) {
    const int64_t count = static_cast<int64_t>(problem.heads) * problem.position_rows;
    float* const terms = context.workspace.allocate<float>(count);
    tensor->position_terms = terms;
    status = for_each(context, name, count, PositionTerms<T>{problem, terms});
  }
  const StridedRows<const T> positions = {problem.position, problem.position_stride, 0};
  const bool aligned = problem.head_dim % 8 == 0 && is_aligned(problem.query) && is_aligned(positions) &&
                       (problem.band.memory == 0 || (is_aligned(problem.key.memory) && is_aligned(problem.value.memory))) &&
                       is_aligned(problem.key.current) && is_aligned(problem.value.current);
  if (aligned) return status;
  StridedRows<const T> packed_positions;
  if (status.ok()) status = pack_rows(context, name, problem.query, problem.batch, problem.query_length, problem, &rows.query);
  if (status.ok()) status = pack_rows(context, name, positions, 1, problem.position_rows, problem, &packed_positions);
  rows.position = packed_positions.first;
  rows.position_stride = packed_positions.row_stride;
  if (status.ok()) status = pack_joined(context, name, problem, &rows.key);
  if (status.ok()) status = pack_joined(context, name, problem, &rows.value);
  rows.head_dim = (problem.head_dim + 7) / 8 * 8;
  return status;
}

}  // namespace xlformers::cuda
