#include "test/cublaslt/fake_cublaslt.h"

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>

#include "cuda/cublaslt.h"
#include "simt/half.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

using namespace xlformers::cuda::cublaslt;

EXPORT fake_cublaslt::Control fake_cublaslt_control;
fake_cublaslt::Control fake_cublaslt_control;

namespace {

constexpr int kInvalidValue = 7;

struct FakeDescription {
  int32_t compute_type, scale_type, transpose[2] = {};
  uint32_t epilogue = kNoEpilogue;
  const void* bias = nullptr;
  void* auxiliary = nullptr;
  int64_t auxiliary_stride = 0;
};

struct FakeLayout {
  int32_t type;
  uint64_t rows, columns;
  int64_t stride;
};

struct FakePreference {
  uint64_t workspace = 0;
  uint32_t schemes = 0, alignment[4] = {256, 256, 256, 256};
};

// What an algorithm was chosen for, inside of its 64 bytes.
struct Choice {
  uint64_t m, n, k;
  uint32_t alignment[4];
  uint32_t epilogue;
};
static_assert(sizeof(Choice) <= sizeof(Algorithm));

int complain(const char* what) {
  char* const complaint = fake_cublaslt_control.complaint;
  if (complaint[0] == '\0') std::snprintf(complaint, sizeof fake_cublaslt_control.complaint, "%s", what);
  return kInvalidValue;
}

template <typename T>
int take(T* to, const void* value, size_t bytes) {
  if (bytes != sizeof(T)) return complain("an attribute of another size");
  std::memcpy(to, value, bytes);
  return kSuccess;
}

double load(int32_t type, const void* data, int64_t at) {
  if (type == kReal32) return static_cast<const float*>(data)[at];
  const uint16_t bits = static_cast<const uint16_t*>(data)[at];
  return type == kReal16 ? simt::half_to_float(bits) : simt::bfloat16_to_float(bits);
}

void store(int32_t type, void* data, int64_t at, double value) {
  const auto narrow = static_cast<float>(value);
  const size_t bytes = type == kReal32 ? 4 : 2;
  if (type == kReal32) {
    static_cast<float*>(data)[at] = narrow;
  } else {
    static_cast<uint16_t*>(data)[at] = type == kReal16 ? simt::float_to_half(narrow) : simt::float_to_bfloat16(narrow);
  }
  if (fake_cublaslt_control.wrote != nullptr)
    fake_cublaslt_control.wrote(static_cast<char*>(data) + at * static_cast<int64_t>(bytes), bytes);
}

double gelu_tanh(double x) { return x * 0.5 * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))); }

bool aligned(const void* pointer, uint32_t alignment) { return reinterpret_cast<uintptr_t>(pointer) % alignment == 0; }

// Of op(A) [m, k], op(B) [k, n], C and D [m, n].
bool sizes_agree(const FakeDescription& description, const FakeLayout* a, const FakeLayout* b, const FakeLayout* c,
                 const FakeLayout* d) {
  const bool ta = description.transpose[0] != 0, tb = description.transpose[1] != 0;
  const uint64_t m = ta ? a->columns : a->rows, k = ta ? a->rows : a->columns, n = tb ? b->rows : b->columns;
  if ((tb ? b->columns : b->rows) != k || d->rows != m || d->columns != n || c->rows != m || c->columns != n)
    return false;
  for (const FakeLayout* layout : {a, b, c, d}) {
    if (layout->stride < static_cast<int64_t>(layout->rows)) return false;
  }
  return a->type == b->type && c->type == d->type && (d->type == a->type || d->type == kReal32);
}

}  // namespace

EXPORT size_t cublasLtGetVersion() { return fake_cublaslt_control.version; }

EXPORT int cublasLtCreate(Handle* handle) {
  *handle = &fake_cublaslt_control;
  ++fake_cublaslt_control.handles;
  return kSuccess;
}
EXPORT int cublasLtDestroy(Handle) { return kSuccess; }

EXPORT int cublasLtMatmulDescCreate(Description* description, int32_t compute_type, int32_t scale_type) {
  if (compute_type != kCompute32 || scale_type != kReal32) return complain("not computed in float");
  *description = new FakeDescription{compute_type, scale_type};
  return kSuccess;
}
EXPORT int cublasLtMatmulDescDestroy(Description description) {
  delete static_cast<FakeDescription*>(description);
  return kSuccess;
}
EXPORT int cublasLtMatmulDescSetAttribute(Description description, int32_t attribute, const void* value, size_t bytes) {
  auto* const to = static_cast<FakeDescription*>(description);
  switch (attribute) {
    case kTransposeA: return take(&to->transpose[0], value, bytes);
    case kTransposeB: return take(&to->transpose[1], value, bytes);
    case kEpilogue: return take(&to->epilogue, value, bytes);
    case kBiasPointer: return take(&to->bias, value, bytes);
    case kAuxiliaryPointer: return take(&to->auxiliary, value, bytes);
    case kAuxiliaryStride: return take(&to->auxiliary_stride, value, bytes);
    default: return complain("an unknown attribute of a description");
  }
}

EXPORT int cublasLtMatrixLayoutCreate(Layout* layout, int32_t type, uint64_t rows, uint64_t columns, int64_t stride) {
  *layout = new FakeLayout{type, rows, columns, stride};
  return kSuccess;
}
EXPORT int cublasLtMatrixLayoutDestroy(Layout layout) {
  delete static_cast<FakeLayout*>(layout);
  return kSuccess;
}

EXPORT int cublasLtMatmulPreferenceCreate(Preference* preference) {
  *preference = new FakePreference;
  return kSuccess;
}
EXPORT int cublasLtMatmulPreferenceDestroy(Preference preference) {
  delete static_cast<FakePreference*>(preference);
  return kSuccess;
}
EXPORT int cublasLtMatmulPreferenceSetAttribute(Preference preference, int32_t attribute, const void* value,
                                                size_t bytes) {
  auto* const to = static_cast<FakePreference*>(preference);
  if (attribute == kMaxWorkspaceBytes) return take(&to->workspace, value, bytes);
  if (attribute == kReductionSchemes) return take(&to->schemes, value, bytes);
  if (attribute >= kMinAlignmentA && attribute < kMinAlignmentA + 4)
    return take(&to->alignment[attribute - kMinAlignmentA], value, bytes);
  return complain("an unknown preference");
}

EXPORT int cublasLtMatmulAlgoGetHeuristic(Handle, Description description, Layout a, Layout b, Layout c, Layout d,
                                          Preference preference, int requested, HeuristicResult* results, int* found) {
  ++fake_cublaslt_control.heuristics;
  *found = 0;
  const auto& operation = *static_cast<FakeDescription*>(description);
  const auto& preferred = *static_cast<FakePreference*>(preference);
  const auto* const layout_d = static_cast<FakeLayout*>(d);
  if (!sizes_agree(operation, static_cast<FakeLayout*>(a), static_cast<FakeLayout*>(b), static_cast<FakeLayout*>(c),
                   layout_d)) {
    return complain("sizes that do not go together");
  }
  if ((operation.epilogue & kBias) != 0 && operation.bias == nullptr) return complain("a bias epilogue without a bias");
  if ((operation.epilogue & kAuxiliary) != 0 &&
      (operation.auxiliary == nullptr || operation.auxiliary_stride % 8 != 0 ||
       operation.auxiliary_stride < static_cast<int64_t>(layout_d->rows))) {
    return complain("an auxiliary output that the library refuses");
  }
  if (preferred.schemes != kReduceComputeType) return complain("a reduction whose order may change");
  if (requested < 1 || fake_cublaslt_control.refuses_algorithms ||
      fake_cublaslt_control.workspace_bytes > preferred.workspace) {
    return kNotSupported;
  }
  const auto* const layout_a = static_cast<FakeLayout*>(a);
  Choice choice{layout_d->rows,
                layout_d->columns,
                operation.transpose[0] != 0 ? layout_a->rows : layout_a->columns,
                {},
                operation.epilogue};
  std::memcpy(choice.alignment, preferred.alignment, sizeof choice.alignment);
  std::memcpy(&results[0].algorithm, &choice, sizeof choice);
  results[0].workspace_bytes = fake_cublaslt_control.workspace_bytes;
  results[0].state = kSuccess;
  *found = 1;
  return kSuccess;
}

EXPORT int cublasLtMatmul(Handle, Description description, const void* alpha, const void* a, Layout layout_a,
                          const void* b, Layout layout_b, const void* beta, const void* c, Layout layout_c, void* d,
                          Layout layout_d, const Algorithm* algorithm, void* workspace, size_t workspace_bytes, void*) {
  if (fake_cublaslt_control.fails_to_multiply) return kNotSupported;
  const auto& operation = *static_cast<FakeDescription*>(description);
  const auto &la = *static_cast<FakeLayout*>(layout_a), &lb = *static_cast<FakeLayout*>(layout_b),
             &lc = *static_cast<FakeLayout*>(layout_c), &ld = *static_cast<FakeLayout*>(layout_d);
  Choice choice;
  std::memcpy(&choice, algorithm, sizeof choice);
  const bool ta = operation.transpose[0] != 0, tb = operation.transpose[1] != 0;
  if (choice.m != ld.rows || choice.n != ld.columns || choice.k != (ta ? la.rows : la.columns) ||
      choice.epilogue != operation.epilogue) {
    return complain("an algorithm for another product");
  }
  if (!aligned(a, choice.alignment[0]) || !aligned(b, choice.alignment[1]) || !aligned(c, choice.alignment[2]) ||
      !aligned(d, choice.alignment[3])) {
    return complain("an algorithm for other alignments");
  }
  if (workspace_bytes < fake_cublaslt_control.workspace_bytes || (workspace_bytes > 0 && !aligned(workspace, 256))) {
    return complain("too little scratch memory, or not aligned");
  }
  const double scale = *static_cast<const float*>(alpha), added = *static_cast<const float*>(beta);
  if (added == 0 && c != d) return complain("a C that is not read, other than D");
  ++fake_cublaslt_control.products;
  for (uint64_t j = 0; j < choice.n; ++j) {
    for (uint64_t i = 0; i < choice.m; ++i) {
      double sum = 0;
      for (uint64_t k = 0; k < choice.k; ++k) {
        const auto at_a = static_cast<int64_t>(ta ? k : i) + static_cast<int64_t>(ta ? i : k) * la.stride;
        const auto at_b = static_cast<int64_t>(tb ? j : k) + static_cast<int64_t>(tb ? k : j) * lb.stride;
        sum += load(la.type, a, at_a) * load(lb.type, b, at_b);
      }
      const auto row = static_cast<int64_t>(i), column = static_cast<int64_t>(j);
      double value = scale * sum;
      if (added != 0) value += added * load(lc.type, c, row + column * lc.stride);
      if ((operation.epilogue & kBias) != 0) value += load(ld.type, operation.bias, row);
      if ((operation.epilogue & kAuxiliary) != 0)
        store(ld.type, operation.auxiliary, row + column * operation.auxiliary_stride, value);
      if ((operation.epilogue & kRelu) != 0) value = value < 0 ? 0 : value;
      if ((operation.epilogue & kGelu) != 0) value = gelu_tanh(value);
      store(ld.type, d, row + column * ld.stride, value);
    }
  }
  return kSuccess;
}
