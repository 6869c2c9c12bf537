// c (+)= dropout(activation(op(a) op(b) + bias)) + residual: by cuBLASLt where it is to be had and knows the operand
// types, by own kernels otherwise, for few rows, and wherever the library has no algorithm.
#include "cuda/cublaslt_product.h"
#include "cuda/gemm.h"
#include "cuda/gemm_few_rows_across.cuh"
#include "cuda/gemm_finish.cuh"
#include "cuda/gemm_register_tile.cuh"
#include "cuda/gemm_tensor_core.cuh"

namespace xlformers::cuda {
namespace {

constexpr int64_t kMaxBlocks = int64_t{1} << 28;

template <typename T, typename... More>
using GemmKernelFunction = void (*)(GemmProblem<T>, GemmOutput<T>, More...);

struct GemmLaunch {
  int64_t blocks;
  int32_t splits;
  unsigned threads;
  size_t shared_bytes;
};

template <typename T, typename... More>
Status launch_gemm(const Context& context, const GemmLaunch& shape, GemmKernelFunction<T, More...> kernel,
                   const GemmProblem<T>& problem, const GemmOutput<T>& out, const More&... more) {
  if (shape.blocks > kMaxBlocks) {
    return make_status(StatusCode::unsupported, "a product of %lld x %lld takes more than 2^28 blocks",
                       static_cast<long long>(out.rows), static_cast<long long>(out.columns));
  }
  const dim3 grid(static_cast<unsigned>(shape.blocks), static_cast<unsigned>(shape.splits));
  return launch(LaunchShape{"matrix_product", grid, dim3(shape.threads), shape.shared_bytes, context.stream}, kernel,
                problem, out, more...);
}

template <typename T, int kTile>
GemmKernelFunction<T> tensor_core_kernel(bool along_a, bool along_b) {
  if (along_a)
    return along_b ? multiply_by_tensor_cores<T, kTile, true, true> : multiply_by_tensor_cores<T, kTile, true, false>;
  return along_b ? multiply_by_tensor_cores<T, kTile, false, true> : multiply_by_tensor_cores<T, kTile, false, false>;
}

template <typename T>
Status launch_tiles(const Context& context, const GemmPlan& plan, GemmProblem<T> problem, const GemmOutput<T>& out) {
  const bool large = plan.kernel == GemmKernel::large_tile;
  const int64_t size = large ? large_tile : small_tile;
  const int64_t row_tiles = (out.rows + size - 1) / size, column_tiles = (out.columns + size - 1) / size;
  problem.row_tiles = static_cast<unsigned>(row_tiles);
  problem.column_tiles = static_cast<unsigned>(column_tiles);
  GemmLaunch shape = {row_tiles * column_tiles, plan.splits, kRegisterThreads, 0};
  if constexpr (sizeof(T) == 2) {
    shape.threads = kTensorThreads;
    const bool along_a = problem.a.along, along_b = problem.b.along;
    if (large) {
      shape.shared_bytes = tensor_core_shared_bytes<large_tile, T>();
      return launch_gemm(context, shape, tensor_core_kernel<T, large_tile>(along_a, along_b), problem, out);
    }
    shape.shared_bytes = tensor_core_shared_bytes<small_tile, T>();
    return launch_gemm(context, shape, tensor_core_kernel<T, small_tile>(along_a, along_b), problem, out);
  } else {
    if constexpr (sizeof(T) == 4) {
      if (large) return launch_gemm<T>(context, shape, multiply_in_registers<T, large_tile / 16>, problem, out);
    }
    return launch_gemm<T>(context, shape, multiply_in_registers<T, small_tile / 16>, problem, out);
  }
}

// x W^T
template <typename T, typename Rows>
Status launch_few_rows(const Context& context, const GemmProblem<T>& problem, const GemmOutput<T>& out,
                       const Rows& rows, size_t shared_bytes) {
  GemmLaunch shape = {0, 1, kFewRowsThreads, shared_bytes};
  if constexpr (sizeof(T) == 2) {
    shape.blocks = (out.columns + kTensorColumns - 1) / kTensorColumns;
    auto kernel = multiply_few_rows_by_tensor_cores<T, 8, Rows>;
    if constexpr (Rows::kMost > 8) {
      if (out.rows > 8) kernel = multiply_few_rows_by_tensor_cores<T, 16, Rows>;
    }
    return launch_gemm<T, Rows>(context, shape, kernel, problem, out, rows);
  } else if constexpr (sizeof(T) == 4) {
    shape.blocks = (out.columns + kFloatColumns - 1) / kFloatColumns;
    auto kernel = out.rows == 1   ? multiply_few_rows_in_registers<1, Rows>
                  : out.rows == 2 ? multiply_few_rows_in_registers<2, Rows>
                                  : multiply_few_rows_in_registers<4, Rows>;
    if constexpr (Rows::kMost > 4) {
      if (out.rows > 4) kernel = multiply_few_rows_in_registers<8, Rows>;
    }
    return launch_gemm<T, Rows>(context, shape, kernel, problem, out, rows);
  } else {
    return make_status(StatusCode::internal, "double has no kernel for few rows");
  }
}

// x W
template <typename T>
Status launch_few_rows_across(const Context& context, const GemmProblem<T>& problem, const GemmOutput<T>& out) {
  if constexpr (sizeof(T) == 8) {
    return make_status(StatusCode::internal, "double has no kernel for few rows");
  } else {
    const int64_t blocks = (out.columns + kColumnsAcross<T> - 1) / kColumnsAcross<T>;
    const auto kernel = out.rows == 1 ? multiply_few_rows_across<T, 1> : multiply_few_rows_across<T, kFewRowsAcross>;
    return launch_gemm<T>(context, {blocks, 1, kFewRowsThreads, 0}, kernel, problem, out);
  }
}

DropoutMask mask_of(const MatrixProductParams& params) {
  return dropout_mask(params.dropout, params.seed, params.offset);
}

template <typename T>
GemmProblem<T> problem_of(const MatrixProductParams& params, const GemmPlan& plan, const DeviceCount& rows_there,
                          const DeviceCount& inner_there) {
  return {
      left_operand<T>(params), right_operand<T>(params), params.inner, plan.split_inner, 0, 0, rows_there, inner_there};
}

template <typename T>
Status multiply(const Context& context, const MatrixProductParams& params, const GemmPlan& plan,
                const DeviceCount& there) {
  const bool of_inner = params.transpose_a != 0;
  const DeviceCount rows_there = of_inner ? DeviceCount{} : there, inner_there = of_inner ? there : DeviceCount{};
  const GemmProblem<T> problem = problem_of<T>(params, plan, rows_there, inner_there);
  GemmOutput<T> out = output_of<T>(params);
  if (plan.kernel == GemmKernel::few_rows) {
    return params.transpose_b ? launch_few_rows<T>(context, problem, out, StoredRows<T>{}, 0)
                              : launch_few_rows_across<T>(context, problem, out);
  }
  if (plan.splits == 1) return launch_tiles<T>(context, plan, problem, out);
  const int64_t elements = params.rows * params.columns;
  out.partials = context.workspace.allocate<Compute<T>>(plan.splits * elements);
  const Status status = launch_tiles<T>(context, plan, problem, out);
  if (!status.ok()) return status;
  const PartialSums<T> sums = {out.partials, elements, params.columns, plan.splits};
  out.partials = nullptr;
  return launch_finish<T>(context, sums, out, rows_there, mask_of(params));
}

}  // namespace

Status multiply_by_plan(const Context& context, const MatrixProductParams& params, const GemmPlan& plan) {
  if (params.dropout > 0 && plan.splits == 1) {
    // Not in the kernels' own epilogues, which take four elements at a time: half of a Philox block, 100 integer
    // operations. A pass of its own drops as fast as memory goes.
    MatrixProductParams sums = params;
    sums.activation = Activation::none;
    sums.dropout = 0;
    sums.residual = nullptr;
    sums.pre_activation = nullptr;
    sums.accumulate = 0;
    if (params.pre_activation != nullptr) {
      sums.c = params.pre_activation;
    } else if (params.accumulate) {
      sums.c = context.workspace.allocate<unsigned char>(params.rows * params.columns *
                                                         static_cast<int64_t>(dtype_size(params.dtype)));
      sums.c_stride = params.columns;
    }
    const Status status = multiply_by_plan(context, sums, plan);
    return status.ok() ? finish_stored_product(context, params, sums.c, sums.c_stride) : status;
  }
  return with_float_type(params.dtype, [&](auto tag) {
    return multiply<typename decltype(tag)::Type>(context, params, plan, DeviceCount{});
  });
}

Status multiply_normed(const Context& context, const LayerNormParams& norm, const MatrixProductParams& params) {
  return with_float_type(params.dtype, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    const GemmPlan plan = plan_gemm(params, context.device.multiprocessors);
    const NormedRows<T> rows = {layer_norm_args<T>(norm)};
    return launch_few_rows<T>(context, problem_of<T>(params, plan, {}, {}), output_of<T>(params), rows,
                              static_cast<size_t>(norm.rows * norm.columns) * sizeof(T));
  });
}

Status multiply_rows_there(const Context& context, const MatrixProductParams& params, const DeviceCount& there) {
  if (params.rows == 0 || params.columns == 0) return ok_status();
  GemmPlan plan = plan_gemm(params, context.device.multiprocessors);
  if (plan.kernel == GemmKernel::few_rows) plan.kernel = GemmKernel::small_tile;
  if (params.transpose_a) {  // parts of the inner dimension would mostly be empty
    const int64_t step = gemm_step(params.dtype);
    plan.splits = 1;
    plan.split_inner = (params.inner + step - 1) / step * step;
  }
  return with_float_type(
      params.dtype, [&](auto tag) { return multiply<typename decltype(tag)::Type>(context, params, plan, there); });
}

Status finish_stored_product(const Context& context, const MatrixProductParams& params, const void* product,
                             int64_t stride) {
  return with_float_type(params.dtype, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    GemmOutput<T> out = output_of<T>(params);
    out.bias = nullptr;
    out.pre_activation = nullptr;
    const bool fours = reinterpret_cast<uintptr_t>(product) % 16 == 0 && stride % 4 == 0;
    const StoredProduct<T> source = {static_cast<const T*>(product), stride, fours};
    return launch_finish<T>(context, source, out, DeviceCount{}, mask_of(params));
  });
}

Status matrix_product(const Context& context, const void* block) {
  const auto& params = *static_cast<const MatrixProductParams*>(block);
  if (params.packed_b)
    return make_status(StatusCode::unsupported, "the CUDA backend has no packed matrices: pass the matrix itself");
  if (params.rows == 0 || params.columns == 0) return ok_status();
  const GemmPlan plan = plan_gemm(params, context.device.multiprocessors);
  if (plan.kernel != GemmKernel::few_rows) {
    bool done = false;
    const Status status = cublaslt::multiply(context, params, &done);
    if (!status.ok() || done) return status;
  }
  return multiply_by_plan(context, params, plan);
}

Status pack_matrix(const Context&, const void*) {
  return make_status(StatusCode::unsupported,
                     "the CUDA backend reads matrices where they lie: packing them is of no use");
}

}  // namespace xlformers::cuda
