// Where the rows of queries, keys and values lie.
#pragma once

#include "cuda/device.cuh"

namespace xlformers::cuda {

// [batch, rows, heads, head_dim] by strides, in elements.
template <typename T>
struct StridedRows {
  T* first;
  int64_t row_stride, batch_stride;

  // `column`: of the head, head * head_dim.
  __device__ T* row(int batch, int index, int column) const { return first + batch * batch_stride + index * row_stride + column; }
};

// Memory and current rows, one behind the other as one sequence of keys or values, read where they lie.
template <typename T>
struct JoinedRows {
  StridedRows<T> memory, current;
  int memory_length;

  __device__ T* row(int batch, int index, int column) const {
    return index < memory_length ? memory.row(batch, index, column) : current.row(batch, index - memory_length, column);
  }
};

}  // namespace xlformers::cuda
