#include "cuda/cublaslt_product.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <tuple>

#include "cuda/gemm.h"

namespace xlformers::cuda::cublaslt {
namespace {

constexpr uint64_t kWorkspaceBytes = uint64_t{32} << 20;
constexpr int64_t kMaxSize = INT32_MAX;
constexpr size_t kMaxAlgorithms = 1024;  // remembered; shapes of texts of all lengths are many

int32_t alignment_of(const void* pointer) {
  const auto address = reinterpret_cast<uintptr_t>(pointer);
  int32_t alignment = 256;
  while (address % static_cast<uintptr_t>(alignment) != 0) alignment /= 2;
  return alignment;
}

auto members(const Shape& s) {
  return std::tie(s.device, s.type, s.output_type, s.m, s.n, s.k, s.transpose_a, s.transpose_b, s.a_stride, s.b_stride,
                  s.c_stride, s.d_stride, s.auxiliary_stride, s.epilogue, s.adds, s.a_alignment, s.b_alignment,
                  s.c_alignment, s.d_alignment, s.bias_alignment, s.auxiliary_alignment);
}

bool data_type(DType dtype, int32_t* type) {
  switch (dtype) {
    case DType::f32: *type = kReal32; return true;
    case DType::bf16: *type = kRealB16; return true;
    case DType::f16: *type = kReal16; return true;
    default: return false;
  }
}

// Fills in what is written where, and by whom.
void describe_output(const MatrixProductParams& params, Call* call) {
  Shape& shape = call->shape;
  shape.epilogue = params.bias != nullptr ? kBias : kNoEpilogue;
  const auto with = [&](uint32_t epilogue) { return epilogue | (params.bias != nullptr ? kBias : 0u); };
  const bool drops = params.dropout > 0;
  const bool only_activation = !drops && params.residual == nullptr && !params.accumulate;
  call->d = params.c;
  shape.c_stride = shape.d_stride = params.c_stride;
  if (params.activation == Activation::none && params.pre_activation == nullptr && !drops &&
      (params.residual == nullptr || !params.accumulate)) {
    shape.adds = only_activation ? 0 : 1;
    if (params.residual != nullptr) {
      call->c = params.residual;
      shape.c_stride = params.residual_stride;
    }
    return;
  }
  if (params.activation == Activation::relu && params.pre_activation == nullptr && only_activation) {
    shape.epilogue = with(kRelu);
    return;
  }
  // The library's tanh may be the device's approximation: good enough for 16 bits only.
  if (params.activation == Activation::gelu_tanh && only_activation && params.dtype != DType::f32) {
    if (params.pre_activation == nullptr) {
      shape.epilogue = with(kGelu);
      return;
    }
    if (params.c_stride % 8 == 0 && alignment_of(params.pre_activation) >= 16) {
      shape.epilogue = with(kGelu | kAuxiliary);
      call->auxiliary = params.pre_activation;
      shape.auxiliary_stride = params.c_stride;
      return;
    }
  }
  call->finishes = true;
  if (params.pre_activation != nullptr) {
    call->d = params.pre_activation;
  } else if (params.accumulate) {
    call->d = nullptr;
    shape.c_stride = shape.d_stride = params.columns;
  }
}

// An algorithm with what it was chosen for. `usable` false: there is none.
struct Prepared {
  Description description = nullptr;
  Layout a = nullptr, b = nullptr, c = nullptr, d = nullptr;
  Algorithm algorithm{};
  size_t workspace_bytes = 0;
  bool usable = false;
};

// Handles and algorithms of all devices, for all threads; they live as long as the process, like the library.
class Product {
 public:
  explicit Product(const Interface& library) : library_(library) {}

  Status run(const Context& context, const Call& call, void* d, bool* done) {
    std::lock_guard<std::mutex> lock(mutex_);
    const Handle handle = handle_of(call.shape.device);
    if (handle == nullptr) return ok_status();
    Prepared* const prepared = prepared_for(handle, call);
    if (!prepared->usable || !set_pointers(prepared->description, call)) return ok_status();
    void* const scratch =
        prepared->workspace_bytes == 0
            ? nullptr
            : context.workspace.allocate<unsigned char>(static_cast<int64_t>(prepared->workspace_bytes));
    const float one = 1, beta = call.shape.adds != 0 ? 1 : 0;
    const void* const c = call.c != nullptr ? call.c : d;
    const int result = library_.Matmul(handle, prepared->description, &one, call.a, prepared->a, call.b, prepared->b,
                                       &beta, c, prepared->c, d, prepared->d, &prepared->algorithm, scratch,
                                       prepared->workspace_bytes, context.stream);
    *done = prepared->usable = result == kSuccess;
    return ok_status();
  }

 private:
  // Null: the library does not work with this device.
  Handle handle_of(int32_t device) {
    const auto found = handles_.find(device);
    if (found != handles_.end()) return found->second;
    Handle handle = nullptr;
    if (library_.Create(&handle) != kSuccess) handle = nullptr;
    return handles_[device] = handle;
  }

  Prepared* prepared_for(Handle handle, const Call& call) {
    const auto found = prepared_.find(call.shape);
    if (found != prepared_.end()) return &found->second;
    if (prepared_.size() >= kMaxAlgorithms) {
      for (auto& [shape, prepared] : prepared_) destroy(prepared);
      prepared_.clear();
    }
    Prepared prepared;
    prepared.usable = prepare(handle, call, &prepared);
    return &(prepared_[call.shape] = prepared);
  }

  template <typename T>
  bool set(Description description, int32_t attribute, const T& value) {
    return library_.MatmulDescSetAttribute(description, attribute, &value, sizeof value) == kSuccess;
  }

  bool set_pointers(Description description, const Call& call) {
    return (call.bias == nullptr || set(description, kBiasPointer, call.bias)) &&
           (call.auxiliary == nullptr || set(description, kAuxiliaryPointer, call.auxiliary));
  }

  bool prepare(Handle handle, const Call& call, Prepared* prepared) {
    const Shape& shape = call.shape;
    const auto layout = [&](Layout* out, int32_t type, bool transposed, int64_t rows, int64_t columns, int64_t stride) {
      return library_.MatrixLayoutCreate(out, type, static_cast<uint64_t>(transposed ? columns : rows),
                                         static_cast<uint64_t>(transposed ? rows : columns), stride) == kSuccess;
    };
    return library_.MatmulDescCreate(&prepared->description, kCompute32, kReal32) == kSuccess &&
           set(prepared->description, kTransposeA, shape.transpose_a) &&
           set(prepared->description, kTransposeB, shape.transpose_b) &&
           set(prepared->description, kEpilogue, shape.epilogue) && set_pointers(prepared->description, call) &&
           (call.auxiliary == nullptr || set(prepared->description, kAuxiliaryStride, shape.auxiliary_stride)) &&
           layout(&prepared->a, shape.type, shape.transpose_a != 0, shape.m, shape.k, shape.a_stride) &&
           layout(&prepared->b, shape.type, shape.transpose_b != 0, shape.k, shape.n, shape.b_stride) &&
           layout(&prepared->c, shape.output_type, false, shape.m, shape.n, shape.c_stride) &&
           layout(&prepared->d, shape.output_type, false, shape.m, shape.n, shape.d_stride) &&
           choose(handle, shape, prepared);
  }

  bool choose(Handle handle, const Shape& shape, Prepared* prepared) {
    Preference preference = nullptr;
    if (library_.MatmulPreferenceCreate(&preference) != kSuccess) return false;
    const auto prefer = [&](int32_t attribute, auto value) {
      return library_.MatmulPreferenceSetAttribute(preference, attribute, &value, sizeof value) == kSuccess;
    };
    HeuristicResult result{};
    int found = 0;
    const bool chosen =
        prefer(kMaxWorkspaceBytes, kWorkspaceBytes) && prefer(kReductionSchemes, kReduceComputeType) &&
        prefer(kMinAlignmentA, static_cast<uint32_t>(shape.a_alignment)) &&
        prefer(kMinAlignmentA + 1, static_cast<uint32_t>(shape.b_alignment)) &&
        prefer(kMinAlignmentA + 2, static_cast<uint32_t>(shape.c_alignment)) &&
        prefer(kMinAlignmentA + 3, static_cast<uint32_t>(shape.d_alignment)) &&
        library_.MatmulAlgoGetHeuristic(handle, prepared->description, prepared->a, prepared->b, prepared->c,
                                        prepared->d, preference, 1, &result, &found) == kSuccess &&
        found == 1 && result.state == kSuccess;
    library_.MatmulPreferenceDestroy(preference);
    prepared->algorithm = result.algorithm;
    prepared->workspace_bytes = result.workspace_bytes;
    return chosen;
  }

  void destroy(const Prepared& prepared) {
    if (prepared.description != nullptr) library_.MatmulDescDestroy(prepared.description);
    for (const Layout layout : {prepared.a, prepared.b, prepared.c, prepared.d}) {
      if (layout != nullptr) library_.MatrixLayoutDestroy(layout);
    }
  }

  const Interface& library_;
  std::mutex mutex_;
  std::map<int32_t, Handle> handles_;
  std::map<Shape, Prepared> prepared_;
};

}  // namespace

bool operator<(const Shape& x, const Shape& y) { return members(x) < members(y); }

bool describe(const MatrixProductParams& params, int32_t device, Call* call) {
  *call = Call{};
  Shape& shape = call->shape;
  if (!data_type(params.dtype, &shape.type) || !data_type(params.c_dtype, &shape.output_type) || params.inner == 0)
    return false;
  if (std::max({params.rows, params.columns, params.inner}) > kMaxSize) return false;
  const bool rows_apart = params.a_stride >= (params.transpose_a ? params.rows : params.inner) &&
                          params.b_stride >= (params.transpose_b ? params.inner : params.columns) &&
                          params.c_stride >= params.columns &&
                          (params.residual == nullptr || params.residual_stride >= params.columns);
  if (!rows_apart) return false;
  shape.device = device;
  shape.m = params.columns;
  shape.n = params.rows;
  shape.k = params.inner;
  shape.transpose_a = params.transpose_b ? kTransposed : kPlain;
  shape.transpose_b = params.transpose_a ? kTransposed : kPlain;
  shape.a_stride = params.b_stride;
  shape.b_stride = params.a_stride;
  call->a = params.b;
  call->b = params.a;
  call->bias = params.bias;
  describe_output(params, call);
  shape.a_alignment = alignment_of(call->a);
  shape.b_alignment = alignment_of(call->b);
  shape.d_alignment = alignment_of(call->d);
  shape.c_alignment = call->c != nullptr ? alignment_of(call->c) : shape.d_alignment;
  shape.bias_alignment = alignment_of(call->bias);
  shape.auxiliary_alignment = alignment_of(call->auxiliary);
  return true;
}

Status multiply(const Context& context, const MatrixProductParams& params, bool* done) {
  *done = false;
  Call call;
  if (!describe(params, context.device.ordinal, &call)) return ok_status();
  const Interface* library = nullptr;
  const Status opened = open(context.device, &library);
  if (!opened.ok() || library == nullptr) return opened;
  static Product& product = *new Product(*library);
  void* d = call.d;
  if (d == nullptr)
    d = context.workspace.allocate<unsigned char>(params.rows * params.columns *
                                                  static_cast<int64_t>(dtype_size(params.dtype)));
  const Status status = product.run(context, call, d, done);
  if (!status.ok() || !*done || !call.finishes) return status;
  return finish_stored_product(context, params, d, call.shape.d_stride);
}

}  // namespace xlformers::cuda::cublaslt
