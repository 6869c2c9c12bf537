// Adam (Kingma & Ba 2015) and AdamW (Loshchilov & Hutter 2019) over all parameters at once, operation by operation as
// torch.optim:
//   m += (g - m)(1 - beta1),  v = v beta2 + (1 - beta2) g^2,  p -= step_size m / (sqrt(v) / sqrt(1 - beta2^t) +
//   epsilon),
// with step_size = learning_rate / (1 - beta1^t).
#include "cpu/conversion.h"
#include "cpu/tensor_blocks.h"

XL_KERNELS_BEGIN

namespace {

// What is the same for all elements of a tensor, computed in double.
template <typename T>
struct AdamFactors {
  T clip;
  T decay;  // decoupled: the parameter's factor 1 - learning_rate * weight_decay
  T l2;     // coupled: the parameter's share in the gradient, weight_decay
  T one_minus_beta1, beta2, one_minus_beta2;
  T root_correction2;  // sqrt(1 - beta2^t)
  T epsilon, step_size;
};

template <typename T>
void adam_range(const AdamFactors<T> f, int64_t count, const T* __restrict gradient, T* __restrict parameter,
                T* __restrict first, T* __restrict second) {
  for (int64_t i = 0; i < count; ++i) {
    const T g = gradient[i] * f.clip + f.l2 * parameter[i];
    const T m = first[i] + (g - first[i]) * f.one_minus_beta1;
    const T v = second[i] * f.beta2 + f.one_minus_beta2 * g * g;
    first[i] = m;
    second[i] = v;
    parameter[i] = parameter[i] * f.decay - f.step_size * (m / (std::sqrt(v) / f.root_correction2 + f.epsilon));
  }
}

template <typename Copy, typename T>
void copy_range(const T* parameter, void* copy, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i) static_cast<Copy*>(copy)[i] = Rounded<Copy>::of(parameter[i]);
}

}  // namespace

template <typename T>
static Status run_adam(Context& context, const AdamParams& params) {
  const T* clip = static_cast<const T*>(params.clip);
  if (clip != nullptr && clip[2] == T{0}) return ok_status();
  const double step = static_cast<double>(params.step);
  AdamFactors<T> common = {};
  common.clip = clip != nullptr ? clip[1] : T{1};
  common.one_minus_beta1 = static_cast<T>(1 - params.beta1);
  common.beta2 = static_cast<T>(params.beta2);
  common.one_minus_beta2 = static_cast<T>(1 - params.beta2);
  common.root_correction2 = static_cast<T>(std::sqrt(1 - std::pow(params.beta2, step)));
  common.epsilon = static_cast<T>(params.epsilon);
  common.step_size = static_cast<T>(params.learning_rate / (1 - std::pow(params.beta1, step)));
  const TensorBlocks blocks = tensor_blocks(context, params.tensors, params.tensor_count);
  parallel_tensor_blocks(
      context, blocks, params.tensors, [&](const AdamTensor& tensor, int64_t begin, int64_t end, int64_t) {
        AdamFactors<T> factors = common;
        factors.decay = params.decoupled != 0 ? static_cast<T>(1 - params.learning_rate * tensor.weight_decay) : T{1};
        factors.l2 = params.decoupled != 0 ? T{0} : static_cast<T>(tensor.weight_decay);
        adam_range<T>(factors, end - begin, static_cast<const T*>(tensor.gradient) + begin,
                      static_cast<T*>(tensor.parameter) + begin, static_cast<T*>(tensor.first_moment) + begin,
                      static_cast<T*>(tensor.second_moment) + begin);
        if (tensor.copy == nullptr) return;
        const auto copy = params.copy_dtype == DType::bf16 ? copy_range<Bfloat16, T> : copy_range<Float16, T>;
        copy(static_cast<const T*>(tensor.parameter), tensor.copy, begin, end);
      });
  return ok_status();
}

XL_FLOATING_KERNEL(adam, AdamParams, run_adam)

XL_KERNELS_END
