// Bindings of the operators that work element by element, and of those that move elements.
#include "addon/arg_reader.h"

namespace xlformers::addon {
namespace {

void fill(OperatorCall& call, const ArgReader& args) {
  FillParams params{};
  params.dtype = args.dtype();
  params.count = args.size("count");
  // Kernels convert the value: nothing may get lost on the way, and numbers out of range are undefined there.
  switch (params.dtype) {
    case DType::i32: params.value = static_cast<double>(args.integer("value", INT32_MIN, INT32_MAX)); break;
    case DType::u8: params.value = static_cast<double>(args.integer("value", 0, UINT8_MAX)); break;
    default: params.value = args.any_number("value");
  }
  params.out = args.output("out", params.dtype, params.count);
  call.enqueue(params);
}

void permute(OperatorCall& call, const ArgReader& args) {
  PermuteParams params{};
  params.dtype = args.dtype();
  args.integers("size", 0, kMaxInteger, params.size, 4);
  int64_t order[4];
  args.integers("order", 0, 3, order, 4);
  int seen = 0;
  for (int axis = 0; axis < 4; ++axis) {
    params.order[axis] = static_cast<int32_t>(order[axis]);
    seen |= 1 << order[axis];
  }
  if (seen != 0b1111) args.refuse(ErrorCode::arg_range, "order", "an axis twice", "each of 0, 1, 2, 3 once");
  const int64_t count = args.product({params.size[0], params.size[1], params.size[2], params.size[3]});
  params.in = args.input("in", params.dtype, count);
  params.out = args.output("out", params.dtype, count);
  call.enqueue(params);
}

void copy_strided(OperatorCall& call, const ArgReader& args) {
  CopyStridedParams params{};
  params.dtype = args.dtype();
  params.outer = args.size("outer");
  params.rows = args.size("rows");
  params.columns = args.size("columns");
  params.in_outer_stride = args.size("inOuterStride");
  params.in_row_stride = args.size("inRowStride");
  params.out_outer_stride = args.size("outOuterStride");
  params.out_row_stride = args.size("outRowStride");
  params.in = args.input("in", params.dtype,
                         args.strided_extent(params.outer, params.in_outer_stride, params.rows, params.in_row_stride, params.columns));
  args.require_distinct("outOuterStride", params.outer, params.out_outer_stride, params.rows, params.out_row_stride, params.columns);
  params.out = args.output("out", params.dtype,
                           args.strided_extent(params.outer, params.out_outer_stride, params.rows, params.out_row_stride, params.columns));
  call.enqueue(params);
}

void random_fill(OperatorCall& call, const ArgReader& args) {
  RandomFillParams params{};
  params.dtype = args.float_dtype();
  params.kind = static_cast<RandomKind>(args.enumeration("kind", {"uniform", "normal"}));
  params.count = args.size("count");
  params.a = args.finite("a");
  params.b = args.finite("b");
  params.seed = args.counter("seed");
  params.offset = args.counter("offset");
  params.out = args.output("out", params.dtype, params.count);
  call.enqueue(params);
}

void add(OperatorCall& call, const ArgReader& args) {
  AddParams params{};
  params.dtype = args.float_dtype();
  params.count = args.size("count");
  params.alpha = args.any_number("alpha");
  params.beta = args.any_number("beta");
  params.x = args.input("x", params.dtype, params.count);
  params.y = args.input("y", params.dtype, params.count, Presence::optional);
  params.out = args.output("out", params.dtype, params.count);
  call.may_alias(params.out, params.x);
  call.may_alias(params.out, params.y);
  call.enqueue(params);
}

void dropout(OperatorCall& call, const ArgReader& args) {
  DropoutParams params{};
  params.dtype = args.float_dtype();
  params.count = args.size("count");
  params.period = args.size("period");
  params.probability = args.probability("probability");
  params.seed = args.counter("seed");
  params.offset = args.counter("offset");
  params.x = args.input("x", params.dtype, params.count);
  params.out = args.output("out", params.dtype, params.count);
  call.may_alias(params.out, params.x);
  call.enqueue(params);
}

void activation(OperatorCall& call, const ArgReader& args) {
  ActivationParams params{};
  params.dtype = args.float_dtype();
  params.activation = args.activation();
  params.count = args.size("count");
  params.x = args.input("x", params.dtype, params.count);
  params.out = args.output("out", params.dtype, params.count);
  call.may_alias(params.out, params.x);
  call.enqueue(params);
}

void activation_gradient(OperatorCall& call, const ArgReader& args) {
  ActivationGradientParams params{};
  params.dtype = args.float_dtype();
  params.activation = args.activation();
  params.count = args.size("count");
  params.dropout = args.probability("dropout");
  params.seed = args.counter("seed");
  params.offset = args.counter("offset");
  params.x = args.input("x", params.dtype, params.count,
                        params.activation == Activation::none ? Presence::optional : Presence::required);
  params.out_gradient = args.input("outGradient", params.dtype, params.count);
  params.x_gradient = args.output("xGradient", params.dtype, params.count);
  call.may_alias(params.x_gradient, params.out_gradient);
  call.enqueue(params);
}

void binary_mask(OperatorCall& call, const ArgReader& args) {
  BinaryMaskParams params{};
  params.dtype = args.dtype();
  params.count = args.size("count");
  params.inverted = args.boolean("inverted") ? 1 : 0;
  params.x = args.input("x", params.dtype, params.count);
  params.out = static_cast<uint8_t*>(args.output("out", DType::u8, params.count));
  call.enqueue(params);
}

void masked_fill(OperatorCall& call, const ArgReader& args) {
  MaskedFillParams params{};
  params.dtype = args.float_dtype();
  params.count = args.size("count");
  params.value = args.any_number("value");
  params.x = args.input("x", params.dtype, params.count);
  params.mask = static_cast<const uint8_t*>(args.input("mask", DType::u8, params.count));
  params.out = args.output("out", params.dtype, params.count);
  call.enqueue(params);
}

void cast(OperatorCall& call, const ArgReader& args) {
  CastParams params{};
  params.dtype = args.float_dtype();
  params.out_dtype = args.float_dtype("outDtype");
  params.count = args.size("count");
  params.accumulate = args.boolean("accumulate") ? 1 : 0;
  params.x = args.input("x", params.dtype, params.count);
  params.out = args.output("out", params.out_dtype, params.count);
  call.enqueue(params);
}

constexpr OperatorEntry kEntries[] = {
    {"cast", Operator::cast, cast},
    {"binaryMask", Operator::binary_mask, binary_mask},
    {"maskedFill", Operator::masked_fill, masked_fill},
    {"fill", Operator::fill, fill},
    {"permute", Operator::permute, permute},
    {"copyStrided", Operator::copy_strided, copy_strided},
    {"randomFill", Operator::random_fill, random_fill},
    {"add", Operator::add, add},
    {"dropout", Operator::dropout, dropout},
    {"activation", Operator::activation, activation},
    {"activationGradient", Operator::activation_gradient, activation_gradient},
};

}  // namespace

OperatorFamily elementwise_operators() { return {kEntries, sizeof kEntries / sizeof *kEntries}; }

}  // namespace xlformers::addon
