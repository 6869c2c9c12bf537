#include "addon/arg_reader.h"
#include "addon/exports.h"
#include "addon/guard.h"

namespace xlformers::addon {
namespace {

// Every operator takes one object, whose fields are those of its parameter block.
Napi::Value run_operator(Environment& environment, const Napi::CallbackInfo& info) {
  const auto& entry = *static_cast<const OperatorEntry*>(info.Data());
  if (!info[0].IsObject() || info[0].IsFunction()) {
    fail(ErrorCode::arg_type, "%s: got %s, expected an object", entry.name, describe(info.Env(), info[0]).c_str());
  }
  OperatorCall call(environment, entry.name, entry.op);
  entry.bind(call, ArgReader(call, info[0]));
  return info.Env().Undefined();
}

}  // namespace

void export_operators(Napi::Object exports) {
  for (const OperatorFamily& family :
       {elementwise_operators(), matrix_operators(), normalization_operators(), embedding_operators(), attention_operators(),
        permutation_attention_operators(), adaptive_softmax_operators(), loss_operators(), optimizer_operators()}) {
    for (size_t index = 0; index < family.count; ++index) {
      const OperatorEntry& entry = family.entries[index];
      export_function<run_operator>(exports, entry.name, const_cast<OperatorEntry*>(&entry));
    }
  }
}

}  // namespace xlformers::addon
