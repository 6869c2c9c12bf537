// Bindings of the optimizer's operators, which take lists of tensors.
#include <cfloat>
#include <cstddef>
#include <optional>

#include "addon/arg_reader.h"
#include "addon/variable_block.h"

namespace xlformers::addon {
namespace {

constexpr int64_t kMaxTensors = 1 << 20;

void global_norm(OperatorCall& call, const ArgReader& args) {
  std::optional<VariableBlock<GlobalNormParams, NormTensor>> block;
  const DType dtype = args.float_dtype();
  args.each(
      "tensors", 1, kMaxTensors,
      [&](int64_t count) {
        GlobalNormParams& params = block.emplace(offsetof(GlobalNormParams, tensors), count).params();
        params.dtype = dtype;
        params.tensor_count = static_cast<int32_t>(count);
      },
      [&](const ArgReader& element, int64_t index) {
        NormTensor& tensor = block->params().tensors[index];
        tensor.count = element.size("count");
        tensor.values = element.input("values", dtype, tensor.count);
      });
  GlobalNormParams& params = block->params();
  params.max_norm = args.any_number("maxNorm");
  params.scale = args.number("scale", DBL_MIN, DBL_MAX);
  params.out = args.output("out", statistics_dtype(dtype), 3);
  call.enqueue_bytes(&params, block->bytes());
}

void adam(OperatorCall& call, const ArgReader& args) {
  refuse_while_recording(call.environment(), "adam", "its step and learning rate change from call to call; call it after a replay");
  std::optional<VariableBlock<AdamParams, AdamTensor>> block;
  const DType dtype = args.float_dtype();
  const DType copy_dtype = args.float_dtype("copyDtype");
  const auto is_short = [](DType type) { return type == DType::bf16 || type == DType::f16; };
  if (!is_short(copy_dtype)) args.refuse(ErrorCode::arg_type, "copyDtype", dtype_name(copy_dtype), "bf16 or f16");
  args.each(
      "tensors", 1, kMaxTensors,
      [&](int64_t count) {
        AdamParams& params = block.emplace(offsetof(AdamParams, tensors), count).params();
        params.dtype = dtype;
        params.copy_dtype = copy_dtype;
        params.tensor_count = static_cast<int32_t>(count);
      },
      [&](const ArgReader& element, int64_t index) {
        AdamTensor& tensor = block->params().tensors[index];
        tensor.count = element.size("count");
        tensor.weight_decay = element.finite("weightDecay");
        tensor.parameter = element.output("parameter", dtype, tensor.count);
        tensor.gradient = element.input("gradient", dtype, tensor.count);
        tensor.first_moment = element.output("firstMoment", dtype, tensor.count);
        tensor.second_moment = element.output("secondMoment", dtype, tensor.count);
        tensor.copy = element.output("copy", copy_dtype, tensor.count, Presence::optional);
        if (tensor.copy != nullptr && is_short(dtype)) {
          args.refuse(ErrorCode::arg_type, "dtype", dtype_name(dtype), "f32 or f64 where there are copies");
        }
      });
  AdamParams& params = block->params();
  params.learning_rate = args.finite("learningRate");
  params.beta1 = args.probability("beta1");
  params.beta2 = args.probability("beta2");
  params.epsilon = args.number("epsilon", 0, DBL_MAX);
  params.step = args.size("step", 1);
  params.decoupled = args.boolean("decoupled");
  params.clip = args.input("clip", statistics_dtype(dtype), 3, Presence::optional);
  call.enqueue_bytes(&params, block->bytes());
}

constexpr OperatorEntry kEntries[] = {
    {"globalNorm", Operator::global_norm, global_norm},
    {"adam", Operator::adam, adam},
};

}  // namespace

OperatorFamily optimizer_operators() { return {kEntries, sizeof kEntries / sizeof *kEntries}; }

}  // namespace xlformers::addon
