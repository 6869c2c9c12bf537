// out (+)= x between floating types, bf16 and fp16 among them: what this backend does with those two beside storing
// them.
#include "cpu/conversion.h"
#include "cpu/elementwise.h"

XL_KERNELS_BEGIN

namespace {

template <typename In, typename Out>
Status run_cast(Context& context, const CastParams& params) {
  const In* x = static_cast<const In*>(params.x);
  Out* out = static_cast<Out*>(params.out);
  const bool accumulate = params.accumulate != 0;
  parallel_blocks(context, params.count, kBlockElements, [=](int64_t begin, int64_t end, int) {
    if (accumulate) {
      for (int64_t i = begin; i < end; ++i) out[i] = Rounded<Out>::of(widened(out[i]) + widened(x[i]));
    } else {
      for (int64_t i = begin; i < end; ++i) out[i] = Rounded<Out>::of(widened(x[i]));
    }
  });
  return ok_status();
}

template <typename In>
Status cast_from(Context& context, const CastParams& params) {
  switch (params.out_dtype) {
    case DType::f32: return run_cast<In, float>(context, params);
    case DType::f64: return run_cast<In, double>(context, params);
    case DType::bf16: return run_cast<In, Bfloat16>(context, params);
    case DType::f16: return run_cast<In, Float16>(context, params);
    default: return make_status(StatusCode::unsupported, "cast: to dtype %s", dtype_name(params.out_dtype));
  }
}

}  // namespace

Status cast(Context& context, const void* block) {
  const CastParams& params = *static_cast<const CastParams*>(block);
  switch (params.dtype) {
    case DType::f32: return cast_from<float>(context, params);
    case DType::f64: return cast_from<double>(context, params);
    case DType::bf16: return cast_from<Bfloat16>(context, params);
    case DType::f16: return cast_from<Float16>(context, params);
    default: return make_status(StatusCode::unsupported, "cast: from dtype %s", dtype_name(params.dtype));
  }
}

XL_KERNELS_END
