// Bindings of the losses and of sampling.
#include <cfloat>

#include "addon/arg_reader.h"

namespace xlformers::addon {
namespace {

SoftmaxCrossEntropyParams read_cross_entropy(const ArgReader& args) {
  SoftmaxCrossEntropyParams params{};
  params.dtype = args.float_dtype();
  params.rows = args.size("rows");
  params.columns = args.integer("columns", 1, INT32_MAX);
  params.logits = args.input("logits", params.dtype, args.product({params.rows, params.columns}));
  params.labels = args.ids("labels", params.rows);
  return params;
}

void softmax_cross_entropy(OperatorCall& call, const ArgReader& args) {
  SoftmaxCrossEntropyParams params = read_cross_entropy(args);
  params.log_sum_exp = args.output("logSumExp", statistics_dtype(params.dtype), params.rows);
  params.loss = args.output("loss", statistics_dtype(params.dtype), params.rows);
  call.enqueue(params);
}

void softmax_cross_entropy_gradient(OperatorCall& call, const ArgReader& args) {
  SoftmaxCrossEntropyParams params = read_cross_entropy(args);
  params.log_sum_exp = const_cast<void*>(args.input("logSumExp", statistics_dtype(params.dtype), params.rows));
  params.loss_gradient = args.input("lossGradient", statistics_dtype(params.dtype), params.rows);
  params.logits_gradient = args.output("logitsGradient", params.dtype, args.product({params.rows, params.columns}));
  call.enqueue(params);
}

void mean_nonzero(OperatorCall& call, const ArgReader& args) {
  MeanNonzeroParams params{};
  params.dtype = args.float_dtype();
  params.count = args.size("count");
  params.x = args.input("x", params.dtype, params.count);
  params.labels = args.ids("labels", params.count, Presence::optional);
  params.out = args.output("out", statistics_dtype(params.dtype), 2);
  call.enqueue(params);
}

void mean_nonzero_gradient(OperatorCall& call, const ArgReader& args) {
  MeanNonzeroGradientParams params{};
  params.dtype = args.float_dtype();
  params.count = args.size("count");
  params.x = args.input("x", params.dtype, params.count);
  params.labels = args.ids("labels", params.count, Presence::optional);
  params.out = args.input("out", statistics_dtype(params.dtype), 2);
  params.out_gradient = args.input("outGradient", statistics_dtype(params.dtype), 1);
  params.x_gradient = args.output("xGradient", params.dtype, params.count);
  call.enqueue(params);
}

ElementLossParams read_element_loss(const ArgReader& args) {
  ElementLossParams params{};
  params.dtype = args.float_dtype();
  params.count = args.size("count");
  params.x = args.input("x", params.dtype, params.count);
  params.target = args.input("target", params.dtype, params.count);
  return params;
}

void element_loss(OperatorCall& call, const ArgReader& args) {
  ElementLossParams params = read_element_loss(args);
  params.loss = args.output("loss", statistics_dtype(params.dtype), params.count);
  call.enqueue(params);
}

void element_loss_gradient(OperatorCall& call, const ArgReader& args) {
  ElementLossParams params = read_element_loss(args);
  params.loss_gradient = args.input("lossGradient", statistics_dtype(params.dtype), params.count);
  params.x_gradient = args.output("xGradient", params.dtype, params.count);
  call.enqueue(params);
}

void sample(OperatorCall& call, const ArgReader& args) {
  SampleParams params{};
  params.dtype = args.float_dtype();
  params.rows = args.integer("rows", 0, UINT32_MAX);
  params.columns = args.integer("columns", 1, INT32_MAX);
  params.temperature = args.number("temperature", 0, DBL_MAX);
  params.top_k = args.integer("topK", 0, params.columns);
  params.top_p = args.number("topP", DBL_MIN, 1);
  params.seed = args.counter("seed");
  params.offset = args.counter("offset");
  params.streams = static_cast<uint32_t*>(args.output("streams", DType::i32, args.product({params.rows, 4}), Presence::optional));
  params.scores = args.input("scores", params.dtype, args.product({params.rows, params.columns}));
  params.ids = static_cast<int32_t*>(args.output("ids", DType::i32, params.rows));
  params.log_probability = args.output("logProbability", statistics_dtype(params.dtype), params.rows, Presence::optional);
  call.enqueue(params);
}

void top_probabilities(OperatorCall& call, const ArgReader& args) {
  TopProbabilitiesParams params{};
  params.dtype = args.float_dtype();
  params.rows = args.size("rows");
  params.columns = args.integer("columns", 1, INT32_MAX);
  params.k = args.integer("k", 1, params.columns);
  const int64_t all = args.product({params.rows, params.columns});
  const int64_t kept = args.product({params.rows, params.k});
  params.scores = args.input("scores", params.dtype, all);
  params.probabilities = args.output("probabilities", params.dtype, all);
  params.top = args.output("top", params.dtype, kept);
  params.indices = static_cast<int32_t*>(args.output("indices", DType::i32, kept));
  call.enqueue(params);
}

constexpr OperatorEntry kEntries[] = {
    {"softmaxCrossEntropy", Operator::softmax_cross_entropy, softmax_cross_entropy},
    {"softmaxCrossEntropyGradient", Operator::softmax_cross_entropy_gradient, softmax_cross_entropy_gradient},
    {"meanNonzero", Operator::mean_nonzero, mean_nonzero},
    {"meanNonzeroGradient", Operator::mean_nonzero_gradient, mean_nonzero_gradient},
    {"squaredError", Operator::squared_error, element_loss},
    {"squaredErrorGradient", Operator::squared_error_gradient, element_loss_gradient},
    {"binaryCrossEntropy", Operator::binary_cross_entropy, element_loss},
    {"binaryCrossEntropyGradient", Operator::binary_cross_entropy_gradient, element_loss_gradient},
    {"sample", Operator::sample, sample},
    {"topProbabilities", Operator::top_probabilities, top_probabilities},
};

}  // namespace

OperatorFamily loss_operators() { return {kEntries, sizeof kEntries / sizeof *kEntries}; }

}  // namespace xlformers::addon
