// Activation functions over arrays, and their gradients.
#include "cuda/activation_math.cuh"
#include "cuda/dropout_elements.cuh"

namespace xlformers::cuda {
namespace {

template <Activation kind, typename T>
struct Activate {
  __device__ T operator()(T x) const { return narrow<T>(activate(kind, widen(x))); }
};

template <Activation kind, typename T>
struct ActivationGradient {
  Compute<T> scale;

  __device__ T operator()(T gradient, T x) const {
    return narrow<T>(widen(gradient) * scale * activation_slope(kind, widen(x)));
  }
  __device__ T operator()(T gradient) const { return narrow<T>(widen(gradient) * scale); }
};

template <Activation kind>
struct SlopeTimes {
  template <typename C>
  __device__ C operator()(C gradient, C x) const {
    return gradient * activation_slope(kind, x);
  }
  template <typename C>
  __device__ C operator()(C gradient) const {
    return gradient;
  }
};

template <Activation kind>
struct ActivationTag {
  static constexpr Activation value = kind;
};

// visit(tag) with the activation as a constant, tag.value.
template <typename Visit>
Status with_activation(Activation activation, const Visit& visit) {
  switch (activation) {
    case Activation::none: return visit(ActivationTag<Activation::none>{});
    case Activation::relu: return visit(ActivationTag<Activation::relu>{});
    case Activation::gelu: return visit(ActivationTag<Activation::gelu>{});
    case Activation::gelu_tanh: return visit(ActivationTag<Activation::gelu_tanh>{});
    case Activation::silu: return visit(ActivationTag<Activation::silu>{});
    case Activation::tanh: return visit(ActivationTag<Activation::tanh>{});
  }
  return make_status(StatusCode::invalid_argument, "activation %d is unknown", static_cast<int>(activation));
}

}  // namespace

Status activation(const Context& context, const void* block) {
  const auto& params = *static_cast<const ActivationParams*>(block);
  return with_float_type(params.dtype, [&](auto type) {
    using T = typename decltype(type)::Type;
    return with_activation(params.activation, [&](auto tag) {
      constexpr Activation kKind = decltype(tag)::value;
      return transform(context, "activation", params.count, Activate<kKind, T>{}, static_cast<T*>(params.out),
                       static_cast<const T*>(params.x));
    });
  });
}

Status activation_gradient(const Context& context, const void* block) {
  const auto& params = *static_cast<const ActivationGradientParams*>(block);
  return with_float_type(params.dtype, [&](auto type) {
    using T = typename decltype(type)::Type;
    return with_activation(params.activation, [&](auto tag) {
      constexpr Activation kKind = decltype(tag)::value;
      constexpr const char* kName = "activation_gradient";
      const DropoutMask mask = dropout_mask(params.dropout, params.seed, params.offset);
      const DropoutArgs<T> args = dropout_args(mask, params.count, 0, static_cast<const T*>(params.out_gradient),
                                               static_cast<T*>(params.x_gradient));
      const auto run = [&](auto... x) {
        if (kKind == Activation::relu || mask.threshold == 0) {
          return transform(context, kName, params.count, ActivationGradient<kKind, T>{args.scale}, args.out, args.x,
                           x...);
        }
        return drop_elements(context, kName, args, SlopeTimes<kKind>{}, x...);
      };
      if constexpr (kKind == Activation::none) {
        return run();  // its slope is 1 everywhere
      } else {
        return run(static_cast<const T*>(params.x));
      }
    });
  });
}

}  // namespace xlformers::cuda
