// Bindings of matrix products and what goes with them.
#include "addon/arg_reader.h"

namespace xlformers::addon {
namespace {

int64_t packed_elements(const OperatorCall& call, DType dtype, int64_t columns, int64_t inner) {
  const int64_t elements = call.device()->backend().packed_matrix_elements(dtype, columns, inner);
  if (elements <= 0) fail(ErrorCode::unsupported, "%s: this backend does not pack matrices of this size and type", call.name());
  return elements;
}

// Only plain products of 16 bits are stored in another type.
void require_plain_sums(const OperatorCall& call, const MatrixProductParams& params) {
  if (params.c_dtype != DType::f32 || dtype_size(params.dtype) != 2) {
    fail(ErrorCode::arg_type, "%s: cDtype: got %s, expected %s%s", call.name(), dtype_name(params.c_dtype), dtype_name(params.dtype),
         dtype_size(params.dtype) == 2 ? " or f32" : "");
  }
  if (params.bias != nullptr || params.residual != nullptr || params.pre_activation != nullptr || params.dropout > 0 ||
      params.activation != Activation::none) {
    fail(ErrorCode::arg_type, "%s: cDtype: got f32 for operands of %s, expected no bias, activation, dropout, residual or preActivation then",
         call.name(), dtype_name(params.dtype));
  }
}

void matrix_product(OperatorCall& call, const ArgReader& args) {
  MatrixProductParams params{};
  const DType dtype = params.dtype = args.float_dtype();
  params.c_dtype = args.float_dtype("cDtype");
  const int64_t rows = params.rows = args.size("rows");
  const int64_t columns = params.columns = args.size("columns");
  const int64_t inner = params.inner = args.size("inner");
  params.transpose_a = args.boolean("transposeA");
  params.transpose_b = args.boolean("transposeB");
  params.packed_b = args.boolean("packedB");
  params.accumulate = args.boolean("accumulate");
  params.activation = args.activation();
  params.dropout = args.probability("dropout");
  params.seed = args.counter("seed");
  params.offset = args.counter("offset");
  params.a_stride = args.size("aStride");
  params.b_stride = args.size("bStride");
  params.residual_stride = args.size("residualStride");
  params.c_stride = args.size("cStride");
  params.a = args.input("a", dtype, params.transpose_a ? args.matrix_extent("aStride", inner, rows, params.a_stride)
                                                       : args.matrix_extent("aStride", rows, inner, params.a_stride));
  int64_t b_elements = 0;
  if (params.packed_b) {
    args.product({columns, inner});
    b_elements = packed_elements(call, dtype, columns, inner);
  } else {
    b_elements = params.transpose_b ? args.matrix_extent("bStride", columns, inner, params.b_stride)
                                    : args.matrix_extent("bStride", inner, columns, params.b_stride);
  }
  params.b = args.input("b", dtype, b_elements);
  params.bias = args.input("bias", dtype, columns, Presence::optional);
  if (args.present("residual")) {
    params.residual = args.input("residual", dtype, args.matrix_extent("residualStride", rows, columns, params.residual_stride));
  }
  const int64_t c_elements = args.matrix_extent("cStride", rows, columns, params.c_stride);
  params.pre_activation = args.output("preActivation", dtype, c_elements, Presence::optional);
  params.c = args.output("c", params.c_dtype, c_elements);
  if (params.c_dtype != dtype) require_plain_sums(call, params);
  call.enqueue(params);
}

void pack_matrix(OperatorCall& call, const ArgReader& args) {
  PackMatrixParams params{};
  params.dtype = args.float_dtype();
  params.columns = args.size("columns");
  params.inner = args.size("inner");
  params.transpose_b = args.boolean("transposeB");
  params.b_stride = args.size("bStride");
  args.product({params.columns, params.inner});
  params.b = args.input("b", params.dtype,
                        params.transpose_b ? args.matrix_extent("bStride", params.columns, params.inner, params.b_stride)
                                           : args.matrix_extent("bStride", params.inner, params.columns, params.b_stride));
  params.packed = args.output("packed", params.dtype, packed_elements(call, params.dtype, params.columns, params.inner));
  call.enqueue(params);
}

void column_sum(OperatorCall& call, const ArgReader& args) {
  ColumnSumParams params{};
  params.dtype = args.float_dtype();
  params.rows = args.size("rows");
  params.columns = args.size("columns");
  params.accumulate = args.boolean("accumulate");
  params.x_stride = args.size("xStride");
  params.x = args.input("x", params.dtype, args.matrix_extent("xStride", params.rows, params.columns, params.x_stride));
  params.out = args.output("out", params.dtype, params.columns);
  call.enqueue(params);
}

constexpr OperatorEntry kEntries[] = {
    {"matrixProduct", Operator::matrix_product, matrix_product},
    {"packMatrix", Operator::pack_matrix, pack_matrix},
    {"columnSum", Operator::column_sum, column_sum},
};

}  // namespace

OperatorFamily matrix_operators() { return {kEntries, sizeof kEntries / sizeof *kEntries}; }

}  // namespace xlformers::addon
