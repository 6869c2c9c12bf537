#include "cuda/elementwise.cuh"

namespace xlformers::cuda {
namespace {

template <typename T>
struct Constant {
  T value;

  __device__ T operator()() const { return value; }
};

template <typename T>
Status fill_with(const Context& context, const FillParams& params, T value) {
  return transform(context, "fill", params.count, Constant<T>{value}, static_cast<T*>(params.out));
}

}  // namespace

Status fill(const Context& context, const void* block) {
  const auto& params = *static_cast<const FillParams*>(block);
  switch (params.dtype) {
    case DType::f32: return fill_with(context, params, static_cast<float>(params.value));
    case DType::f64: return fill_with(context, params, params.value);
    case DType::bf16: return fill_with(context, params, __double2bfloat16(params.value));
    case DType::f16: return fill_with(context, params, __double2half(params.value));
    case DType::i32: return fill_with(context, params, static_cast<int32_t>(params.value));
    case DType::u8: return fill_with(context, params, static_cast<uint8_t>(params.value));
  }
  return make_status(StatusCode::unsupported, "dtype %d is unknown", static_cast<int>(params.dtype));
}

}  // namespace xlformers::cuda
