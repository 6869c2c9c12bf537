// out[i] = mask[i] ? value : x[i]
#include "cpu/elementwise.h"

XL_KERNELS_BEGIN

template <typename T>
static Status run_masked_fill(Context& context, const MaskedFillParams& params) {
  const T* const x = static_cast<const T*>(params.x);
  T* const out = static_cast<T*>(params.out);
  const T value = static_cast<T>(params.value);
  const uint8_t* const mask = params.mask;
  parallel_blocks(context, params.count, kBlockElements, [=](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) out[i] = mask[i] != 0 ? value : x[i];
  });
  return ok_status();
}

XL_FLOATING_KERNEL(masked_fill, MaskedFillParams, run_masked_fill)

XL_KERNELS_END
