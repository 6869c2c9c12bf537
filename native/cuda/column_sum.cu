// out[columns] (+)= sum over rows of x: the gradient of a bias. Reads x once, one addition per element: 12288 x 4096 in
// bf16, 101 MB, take 34 us on an H100, and the sum over chunks 4 us more.
#include "cuda/column_sum.cuh"

namespace xlformers::cuda {
namespace {

// Chunks of rows to partial sums in the workspace.
template <int width, typename T>
Status sum_chunks(const Context& context, const ColumnSumParams& params, int64_t chunks, int64_t chunk_rows,
                  Compute<T>* partial) {
  const ColumnSum<T, Compute<T>> sum = {static_cast<const T*>(params.x), params.x_stride, partial};
  const dim3 grid(static_cast<unsigned>(divide_up(params.columns, 32 * width)), static_cast<unsigned>(chunks));
  return launch({"column_sum", grid, dim3(32, kChunkRowThreads), 0, context.stream},
                sum_columns<kChunkRowThreads, width, false, T, Compute<T>>, sum, ColumnSum<T, Compute<T>>{},
                params.rows, params.columns, chunk_rows);
}

template <typename In, typename T>
Status finish(const Context& context, const ColumnSumParams& params, const In* x, int64_t stride, int64_t rows) {
  const ColumnSum<In, T> sum = {x, stride, static_cast<T*>(params.out)};
  return params.accumulate != 0 ? sum_few_rows<true>(context, "column_sum", sum, {}, rows, params.columns)
                                : sum_few_rows<false>(context, "column_sum", sum, {}, rows, params.columns);
}

}  // namespace

Status column_sum(const Context& context, const void* block) {
  const auto& params = *static_cast<const ColumnSumParams*>(block);
  if (params.columns <= 0) return ok_status();
  return with_float_type(params.dtype, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    constexpr int kWidth = pack_elements<T>();
    const T* const x = static_cast<const T*>(params.x);
    const bool packs = aligned_for_packs<kWidth>(x) && params.columns % kWidth == 0 && params.x_stride % kWidth == 0;
    // As many chunks as fill the device four times over, of at least 64 rows.
    const int64_t strips = divide_up(params.columns, packs ? 32 * kWidth : 32);
    const int64_t wanted = std::min(divide_up(int64_t{4} * context.device.multiprocessors, strips), params.rows / 64);
    if (wanted <= 1) return finish<T, T>(context, params, x, params.x_stride, params.rows);
    const int64_t chunk_rows = divide_up(params.rows, wanted), chunks = divide_up(params.rows, chunk_rows);
    auto* const partial = context.workspace.allocate<Compute<T>>(chunks * params.columns);
    const Status status = packs ? sum_chunks<kWidth, T>(context, params, chunks, chunk_rows, partial)
                                : sum_chunks<1, T>(context, params, chunks, chunk_rows, partial);
    if (!status.ok()) return status;
    return finish<Compute<T>, T>(context, params, partial, params.columns, chunks);
  });
}

}  // namespace xlformers::cuda
