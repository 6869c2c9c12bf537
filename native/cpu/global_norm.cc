// The Euclidean norm over all gradients, and the factor that clips it.
#include "cpu/reduce.h"
#include "cpu/tensor_blocks.h"

XL_KERNELS_BEGIN

template <typename T>
static Status run_global_norm(Context& context, const GlobalNormParams& params) {
  const TensorBlocks blocks = tensor_blocks(context, params.tensors, params.tensor_count);
  double* partial = context.workspace.allocate<double>(blocks.count());
  parallel_tensor_blocks(context, blocks, params.tensors,
                         [=](const NormTensor& tensor, int64_t begin, int64_t end, int64_t block) {
                           partial[block] = sum_in_double(static_cast<const T*>(tensor.values) + begin, end - begin,
                                                          [](Vec<double> v) { return v * v; });
                         });
  const double norm = std::sqrt(add_in_order(partial, blocks.count())) / params.scale;
  const double ratio = params.max_norm / (norm + 1e-6);
  T* out = static_cast<T*>(params.out);
  out[0] = static_cast<T>(norm);
  out[1] = static_cast<T>((params.max_norm > 0 && ratio < 1 ? ratio : 1) / params.scale);
  out[2] = __builtin_isfinite(out[0]) ? T{1} : T{0};
  return ok_status();
}

XL_FLOATING_KERNEL(global_norm, GlobalNormParams, run_global_norm)

XL_KERNELS_END
