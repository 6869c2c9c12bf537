// A mask as XLNet's inputs have it, in any type, as bytes.
#include "cpu/elementwise.h"

XL_KERNELS_BEGIN

template <typename T>
static Status run_binary_mask(Context& context, const BinaryMaskParams& params) {
  const T* const x = static_cast<const T*>(params.x);
  uint8_t* const out = params.out;
  const bool inverted = params.inverted != 0;
  parallel_blocks(context, params.count, kBlockElements, [=](int64_t begin, int64_t end, int) {
    if (inverted) {
      for (int64_t i = begin; i < end; ++i) out[i] = x[i] < 1 ? 1 : 0;
    } else {
      for (int64_t i = begin; i < end; ++i) out[i] = x[i] > 0 ? 1 : 0;
    }
  });
  return ok_status();
}

Status binary_mask(Context& context, const void* block) {
  const BinaryMaskParams& params = *static_cast<const BinaryMaskParams*>(block);
  switch (params.dtype) {
    case DType::f32: return run_binary_mask<float>(context, params);
    case DType::f64: return run_binary_mask<double>(context, params);
    case DType::i32: return run_binary_mask<int32_t>(context, params);
    case DType::u8: return run_binary_mask<uint8_t>(context, params);
    default: return unsupported_dtype("binary_mask", params.dtype);
  }
}

XL_KERNELS_END
