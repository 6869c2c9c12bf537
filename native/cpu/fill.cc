// out[i] = value
#include "cpu/elementwise.h"

XL_KERNELS_BEGIN

template <typename T>
static Status run_fill(Context& context, const FillParams& params) {
  T* out = static_cast<T*>(params.out);
  const T value = static_cast<T>(params.value);
  parallel_blocks(context, params.count, kBlockElements, [=](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) out[i] = value;
  });
  return ok_status();
}

Status fill(Context& context, const void* block) {
  const FillParams& params = *static_cast<const FillParams*>(block);
  switch (params.dtype) {
    case DType::f32: return run_fill<float>(context, params);
    case DType::f64: return run_fill<double>(context, params);
    case DType::i32: return run_fill<int32_t>(context, params);
    case DType::u8: return run_fill<uint8_t>(context, params);
    default: return unsupported_dtype("fill", params.dtype);
  }
}

XL_KERNELS_END
