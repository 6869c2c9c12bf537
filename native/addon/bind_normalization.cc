// Bindings of layer normalisation.
#include <cfloat>

#include "addon/arg_reader.h"

namespace xlformers::addon {
namespace {

void layer_norm(OperatorCall& call, const ArgReader& args) {
  LayerNormParams params{};
  const DType dtype = params.dtype = args.float_dtype();
  params.rows = args.size("rows");
  params.columns = args.size("columns", 1);
  params.epsilon = args.number("epsilon", 0, DBL_MAX);
  params.dropout = args.probability("dropout");
  params.seed = args.counter("seed");
  params.offset = args.counter("offset");
  const int64_t count = args.product({params.rows, params.columns});
  params.x = args.input("x", dtype, count);
  params.residual = args.input("residual", dtype, count, Presence::optional);
  params.weight = args.input("weight", dtype, params.columns);
  params.bias = args.input("bias", dtype, params.columns);
  params.sum = args.output("sum", dtype, count, Presence::optional);
  params.mean = args.output("mean", statistics_dtype(dtype), params.rows, Presence::optional);
  params.rstd = args.output("rstd", statistics_dtype(dtype), params.rows, Presence::optional);
  params.y = args.output("y", dtype, count);
  call.enqueue(params);
}

void layer_norm_gradient(OperatorCall& call, const ArgReader& args) {
  LayerNormGradientParams params{};
  const DType dtype = params.dtype = args.float_dtype();
  params.rows = args.size("rows");
  params.columns = args.size("columns", 1);
  params.dropout = args.probability("dropout");
  params.seed = args.counter("seed");
  params.offset = args.counter("offset");
  const int64_t count = args.product({params.rows, params.columns});
  params.sum = args.input("sum", dtype, count);
  params.mean = args.input("mean", statistics_dtype(dtype), params.rows);
  params.rstd = args.input("rstd", statistics_dtype(dtype), params.rows);
  params.weight = args.input("weight", dtype, params.columns);
  params.y_gradient = args.input("yGradient", dtype, count);
  params.x_gradient = args.output("xGradient", dtype, count, Presence::optional);
  params.residual_gradient = args.output("residualGradient", dtype, count, Presence::optional);
  params.weight_gradient = args.output("weightGradient", dtype, params.columns);
  params.bias_gradient = args.output("biasGradient", dtype, params.columns);
  call.enqueue(params);
}

constexpr OperatorEntry kEntries[] = {
    {"layerNorm", Operator::layer_norm, layer_norm},
    {"layerNormGradient", Operator::layer_norm_gradient, layer_norm_gradient},
};

}  // namespace

OperatorFamily normalization_operators() { return {kEntries, sizeof kEntries / sizeof *kEntries}; }

}  // namespace xlformers::addon
