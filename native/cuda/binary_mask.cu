// A mask as XLNet's inputs have it, in any type, as bytes.
#include "cuda/elementwise.cuh"

namespace xlformers::cuda {
namespace {

template <typename T>
struct BinaryMask {
  bool inverted;

  __device__ uint8_t operator()(T x) const { return inverted ? x < T{1} : x > T{0}; }
};

template <typename T>
Status make_mask(const Context& context, const BinaryMaskParams& params) {
  return transform(context, "binary_mask", params.count, BinaryMask<T>{params.inverted != 0}, params.out,
                   static_cast<const T*>(params.x));
}

}  // namespace

Status binary_mask(const Context& context, const void* block) {
  const auto& params = *static_cast<const BinaryMaskParams*>(block);
  switch (params.dtype) {
    case DType::f32: return make_mask<float>(context, params);
    case DType::f64: return make_mask<double>(context, params);
    case DType::i32: return make_mask<int32_t>(context, params);
    case DType::u8: return make_mask<uint8_t>(context, params);
    default:
      return make_status(StatusCode::unsupported, "binary_mask: dtype %s, expected f32, f64, i32 or u8",
                         dtype_name(params.dtype));
  }
}

}  // namespace xlformers::cuda
