// Activation functions over arrays, and their gradients.
#include "cpu/activation_math.h"
#include "cpu/elementwise.h"
#include "cpu/philox_vec.h"

XL_KERNELS_BEGIN

template <typename T>
static Status run_activation(Context& context, const ActivationParams& params) {
  const T* x = static_cast<const T*>(params.x);
  T* out = static_cast<T*>(params.out);
  return with_activation(params.activation, [&](auto tag) {
    constexpr Activation kind = decltype(tag)::value;
    transform<T>(
        context, params.count, [](Vec<T> v) { return activate<kind, T>(v); }, out, x);
  });
}

// x_gradient[i] = f(x[i], dropped gradient) for the `count` <= kDropoutChunk elements from the mask's `index` on.
template <typename T, typename F>
static inline void drop_chunk(const DropoutMask& mask, int64_t index, int64_t count, const F& f, const T* x,
                              const T* out_gradient, T* x_gradient) {
  uint16_t buffer[kDropoutChunk + kDropoutPadding];
  const uint16_t* lanes = dropout_lanes(mask.stream, index, count, buffer);
  const T scale = static_cast<T>(mask.scale);
  for (int64_t i = 0; i < count; i += kLanes<T>) {
    const int width = static_cast<int>(at_most(count - i, kLanes<T>));
    const Vec<T> g = dropped<T>(load_lanes<T>(out_gradient + i, width), lanes + i, mask.threshold, scale);
    store_lanes<T>(x_gradient + i, f(load_lanes<T>(x + i, width), g), width);
  }
}

template <typename T>
static Status run_activation_gradient(Context& context, const ActivationGradientParams& params) {
  const T* out_gradient = static_cast<const T*>(params.out_gradient);
  // None does not read it: its slope is 1 everywhere.
  const T* x = params.activation == Activation::none ? out_gradient : static_cast<const T*>(params.x);
  T* x_gradient = static_cast<T*>(params.x_gradient);
  const DropoutMask mask = dropout_mask(params.dropout, params.seed, params.offset);
  const T scale = static_cast<T>(mask.scale);
  return with_activation(params.activation, [&](auto tag) {
    constexpr Activation kind = decltype(tag)::value;
    const auto through = [](Vec<T> v, Vec<T> g) { return g * activation_slope<kind, T>(v); };
    if (kind == Activation::relu || mask.threshold == 0) {
      transform<T>(
          context, params.count, [=](Vec<T> v, Vec<T> g) { return through(v, g * scale); }, x_gradient, x,
          out_gradient);
      return;
    }
    parallel_blocks(context, params.count, kBlockElements, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; i += kDropoutChunk) {
        drop_chunk<T>(mask, i, at_most(end - i, kDropoutChunk), through, x + i, out_gradient + i, x_gradient + i);
      }
    });
  });
}

XL_FLOATING_KERNEL(activation, ActivationParams, run_activation)
XL_FLOATING_KERNEL(activation_gradient, ActivationGradientParams, run_activation_gradient)

XL_KERNELS_END
