// Mean over the entries that count: those with a label, or without labels those that are not zero (losses of ignored
// labels are). Reads x and the labels once: launches decide its time, 5 us. The mean and the number are Compute<T>:
// float for bf16 and fp16.
#include "cuda/double_sum.cuh"

namespace xlformers::cuda {
namespace {

constexpr int64_t kMeanBlock = 8192;

template <typename T>
__global__ void __launch_bounds__(kSumThreads)
    sum_and_count(int64_t count, const T* x, const int32_t* labels, double2* partial) {
  const int64_t begin = static_cast<int64_t>(blockIdx.x) * kMeanBlock;
  const int64_t own = count - begin < kMeanBlock ? count - begin : kMeanBlock;
  const double2 sum = block_sum_of(own, x + begin, [&](int64_t i, double value) {
    const bool counts = labels != nullptr ? labels[begin + i] != kIgnoredLabel : value != 0;
    return make_double2(value, counts ? 1 : 0);
  });
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

template <typename C>
__global__ void __launch_bounds__(kSumThreads) finish_mean(int64_t blocks, const double2* partial, C* out) {
  const double2 sum = sum_of_blocks(blocks, partial);
  if (threadIdx.x != 0) return;
  out[0] = sum.y > 0 ? static_cast<C>(sum.x / sum.y) : C{0};
  out[1] = static_cast<C>(sum.y);
}

// The share of every entry that counts.
template <typename T>
struct MeanGradient {
  using C = Compute<T>;
  const C* out;
  const C* out_gradient;

  __device__ T share() const {
    const double count = static_cast<double>(out[1]);
    return narrow_double<T>(count > 0 ? static_cast<double>(out_gradient[0]) / count : 0);
  }
  __device__ T operator()(T x) const { return widen(x) != C{0} ? share() : narrow<T>(C{0}); }
  __device__ T operator()(int32_t label) const { return label != kIgnoredLabel ? share() : narrow<T>(C{0}); }
};

}  // namespace

Status mean_nonzero(const Context& context, const void* block) {
  const auto& params = *static_cast<const MeanNonzeroParams*>(block);
  return with_float_type(params.dtype, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    const int64_t blocks = divide_up(std::max(params.count, int64_t{0}), kMeanBlock);
    auto* const partial = context.workspace.allocate<double2>(blocks);
    if (blocks > 0) {
      const dim3 grid(static_cast<unsigned>(blocks));
      const Status status = launch({"mean_nonzero", grid, dim3(kSumThreads), 0, context.stream}, sum_and_count<T>,
                                   params.count, static_cast<const T*>(params.x), params.labels, partial);
      if (!status.ok()) return status;
    }
    return launch({"mean_nonzero", dim3(1), dim3(kSumThreads), 0, context.stream}, finish_mean<Compute<T>>, blocks,
                  static_cast<const double2*>(partial), static_cast<Compute<T>*>(params.out));
  });
}

Status mean_nonzero_gradient(const Context& context, const void* block) {
  const auto& params = *static_cast<const MeanNonzeroGradientParams*>(block);
  return with_float_type(params.dtype, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    const MeanGradient<T> body = {static_cast<const Compute<T>*>(params.out),
                                  static_cast<const Compute<T>*>(params.out_gradient)};
    T* const x_gradient = static_cast<T*>(params.x_gradient);
    return params.labels != nullptr
               ? transform(context, "mean_nonzero_gradient", params.count, body, x_gradient, params.labels)
               : transform(context, "mean_nonzero_gradient", params.count, body, x_gradient,
                           static_cast<const T*>(params.x));
  });
}

}  // namespace xlformers::cuda
