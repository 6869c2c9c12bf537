// matrix_product by cuBLASLt: what of it the library does, in the library's terms, and the call.
#pragma once

#include <cstdint>

#include "core/operators.h"
#include "cuda/cublaslt.h"
#include "cuda/kernel.h"

namespace xlformers::cuda::cublaslt {

// What the choice of an algorithm depends on. Matrices are column-major here, so the library sees the transposes of
// ours, and computes D [m, n] = C^T = op(b)^T op(a)^T: its A is our b, its B our a, m = columns, n = rows.
struct Shape {
  int32_t device, type, output_type;  // of C and D
  int64_t m, n, k;
  int32_t transpose_a, transpose_b;
  int64_t a_stride, b_stride, c_stride, d_stride, auxiliary_stride;
  uint32_t epilogue;
  int32_t adds;  // C is added: beta = 1
  // Of the pointers, in bytes, up to 256.
  int32_t a_alignment, b_alignment, c_alignment, d_alignment, bias_alignment, auxiliary_alignment;
};
bool operator<(const Shape& x, const Shape& y);

struct Call {
  Shape shape;
  const void* a;
  const void* b;
  const void* c;  // what is added; d without
  void* d;        // null: scratch memory
  const void* bias;
  void* auxiliary;
  bool finishes;  // activation, dropout, residual and accumulation are left to finish_stored_product, from d
};

// False: nothing for the library (another type, an empty inner dimension, rows that overlap, more than 2^31 - 1 rows or
// columns).
bool describe(const MatrixProductParams& params, int32_t device, Call* call);

// *done = false: there is no library, or none of its algorithms serves.
Status multiply(const Context& context, const MatrixProductParams& params, bool* done);

}  // namespace xlformers::cuda::cublaslt
