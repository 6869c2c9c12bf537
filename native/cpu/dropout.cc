// Element-wise dropout. The mask is never stored: it is made again, from the same numbers, for the gradient.
#include "cpu/elementwise.h"
#include "cpu/philox_vec.h"

XL_KERNELS_BEGIN

// Elements [i, i + count) with the mask of elements [mask_index, mask_index + count); count <= kDropoutChunk.
template <typename T>
static void drop_chunk(const DropoutMask& mask, int64_t mask_index, int64_t count, const T* x, T* out) {
  uint16_t buffer[kDropoutChunk + kDropoutPadding];
  const uint16_t* lanes = dropout_lanes(mask.stream, mask_index, count, buffer);
  const T scale = static_cast<T>(mask.scale);
  int64_t i = 0;
  for (; i + kLanes<T> <= count; i += kLanes<T>)
    store<T>(out + i, dropped<T>(load<T>(x + i), lanes + i, mask.threshold, scale));
  if (i < count) {
    const int rest = static_cast<int>(count - i);
    store_partial<T>(out + i, dropped<T>(load_partial<T>(x + i, rest), lanes + i, mask.threshold, scale), rest);
  }
}

template <typename T>
static Status run_dropout(Context& context, const DropoutParams& params) {
  const T* x = static_cast<const T*>(params.x);
  T* out = static_cast<T*>(params.out);
  const DropoutMask mask = dropout_mask(params.probability, params.seed, params.offset);
  if (mask.threshold == 0) {
    const T scale = static_cast<T>(mask.scale);
    transform<T>(context, params.count, [=](Vec<T> v) { return v * scale; }, out, x);
    return ok_status();
  }
  parallel_blocks(context, params.count, kBlockElements, [&](int64_t begin, int64_t end, int) {
    const int64_t period = params.period > 0 ? params.period : params.count;
    for (int64_t i = begin; i < end;) {
      const int64_t mask_index = i % period;
      const int64_t count = at_most(at_most(end - i, kDropoutChunk), period - mask_index);
      drop_chunk<T>(mask, mask_index, count, x + i, out + i);
      i += count;
    }
  });
  return ok_status();
}

XL_FLOATING_KERNEL(dropout, DropoutParams, run_dropout)

XL_KERNELS_END
