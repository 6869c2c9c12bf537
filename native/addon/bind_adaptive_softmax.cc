// Bindings of the adaptive softmax.
#include <cstddef>
#include <optional>

#include "addon/arg_reader.h"
#include "addon/variable_block.h"

namespace xlformers::addon {
namespace {

constexpr int64_t kMaxClusters = 1024;

enum class Stage { loss, gradient, log_probabilities };

void read_cluster(const ArgReader& args, const AdaptiveSoftmaxParams& params, Stage stage, int64_t first_id, SoftmaxCluster* cluster) {
  const DType dtype = params.dtype;
  const int64_t d_model = params.d_model;
  cluster->first_id = args.integer("firstId", first_id, first_id);  // clusters follow one another
  cluster->size = args.integer("size", 1, INT32_MAX - first_id);
  cluster->width = args.size("width", 1);
  const int64_t weight = args.product({cluster->size, cluster->width});
  const int64_t projection = args.product({d_model, cluster->width});
  cluster->weight = args.input("weight", dtype, weight);
  cluster->bias = args.input("bias", dtype, cluster->size, Presence::optional);
  cluster->projection = args.input("projection", dtype, projection, Presence::optional);
  if (cluster->projection == nullptr && cluster->width != d_model) {
    args.refuse_integer(ErrorCode::arg_shape, "width", cluster->width, "dModel, " + std::to_string(d_model) + ", without a projection");
  }
  if (stage != Stage::gradient) return;
  const auto gradient = [&](const char* name, int64_t elements, const void* operand) -> void* {
    if (operand == nullptr && args.present(name)) args.refuse(ErrorCode::arg_shape, name, "a buffer", "none, as its operand is absent");
    return args.output(name, dtype, elements, Presence::optional);
  };
  cluster->weight_gradient = gradient("weightGradient", weight, cluster->weight);
  cluster->bias_gradient = gradient("biasGradient", cluster->size, cluster->bias);
  cluster->projection_gradient = gradient("projectionGradient", projection, cluster->projection);
}

void read_adaptive_softmax(OperatorCall& call, const ArgReader& args, Stage stage) {
  std::optional<VariableBlock<AdaptiveSoftmaxParams, SoftmaxCluster>> block;
  int64_t vocabulary = 0;
  const DType dtype = args.float_dtype();
  const int64_t rows = args.size("rows");
  const int64_t d_model = args.size("dModel", 1);
  args.each(
      "clusters", 1, kMaxClusters,
      [&](int64_t count) {
        AdaptiveSoftmaxParams& params = block.emplace(offsetof(AdaptiveSoftmaxParams, clusters), count).params();
        params.dtype = dtype;
        params.rows = rows;
        params.d_model = d_model;
        params.cluster_count = static_cast<int32_t>(count);
      },
      [&](const ArgReader& element, int64_t index) {
        AdaptiveSoftmaxParams& params = block->params();
        SoftmaxCluster* const cluster = params.clusters + index;
        read_cluster(element, params, stage, vocabulary, cluster);
        vocabulary += cluster->size;
      });
  AdaptiveSoftmaxParams& params = block->params();
  params.reversed_clusters = args.boolean("reversedClusters");
  const int64_t hidden = args.product({rows, d_model});
  const int64_t tails = params.cluster_count - 1;
  const int64_t cluster_weight = args.product({tails, params.clusters[0].width});
  const Presence several = tails > 0 ? Presence::required : Presence::optional;
  params.hidden = args.input("hidden", dtype, hidden);
  if (stage != Stage::log_probabilities) params.labels = args.ids("labels", rows);
  params.cluster_weight = args.input("clusterWeight", dtype, cluster_weight, several);
  params.cluster_bias = args.input("clusterBias", dtype, tails, several);
  switch (stage) {
    case Stage::loss: params.loss = args.output("loss", statistics_dtype(dtype), rows); break;
    case Stage::log_probabilities:
      params.log_probabilities = args.output("logProbabilities", dtype, args.product({rows, vocabulary}));
      break;
    case Stage::gradient:
      params.loss_gradient = args.input("lossGradient", statistics_dtype(dtype), rows);
      params.hidden_gradient = args.output("hiddenGradient", dtype, hidden);
      params.cluster_weight_gradient = args.output("clusterWeightGradient", dtype, cluster_weight, Presence::optional);
      params.cluster_bias_gradient = args.output("clusterBiasGradient", dtype, tails, Presence::optional);
  }
  call.enqueue_bytes(&params, block->bytes());
}

void adaptive_softmax_loss(OperatorCall& call, const ArgReader& args) { read_adaptive_softmax(call, args, Stage::loss); }

void adaptive_softmax_loss_gradient(OperatorCall& call, const ArgReader& args) {
  read_adaptive_softmax(call, args, Stage::gradient);
}

void adaptive_log_softmax(OperatorCall& call, const ArgReader& args) {
  read_adaptive_softmax(call, args, Stage::log_probabilities);
}

constexpr OperatorEntry kEntries[] = {
    {"adaptiveSoftmaxLoss", Operator::adaptive_softmax_loss, adaptive_softmax_loss},
    {"adaptiveSoftmaxLossGradient", Operator::adaptive_softmax_loss_gradient, adaptive_softmax_loss_gradient},
    {"adaptiveLogSoftmax", Operator::adaptive_log_softmax, adaptive_log_softmax},
};

}  // namespace

OperatorFamily adaptive_softmax_operators() { return {kEntries, sizeof kEntries / sizeof *kEntries}; }

}  // namespace xlformers::addon
