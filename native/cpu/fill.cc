// out[i] = value
#include "core/short_float.h"
#include "cpu/elementwise.h"

XL_KERNELS_BEGIN

template <typename T>
static Status run_fill(Context& context, const FillParams& params, const T value) {
  T* out = static_cast<T*>(params.out);
  parallel_blocks(context, params.count, kBlockElements, [=](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) out[i] = value;
  });
  return ok_status();
}

Status fill(Context& context, const void* block) {
  const FillParams& params = *static_cast<const FillParams*>(block);
  switch (params.dtype) {
    case DType::f32: return run_fill(context, params, static_cast<float>(params.value));
    case DType::f64: return run_fill(context, params, static_cast<double>(params.value));
    case DType::bf16: return run_fill(context, params, to_bfloat16(params.value));
    case DType::f16: return run_fill(context, params, to_float16(params.value));
    case DType::i32: return run_fill(context, params, static_cast<int32_t>(params.value));
    case DType::u8: return run_fill(context, params, static_cast<uint8_t>(params.value));
    default: return unsupported_dtype("fill", params.dtype);
  }
}

XL_KERNELS_END
