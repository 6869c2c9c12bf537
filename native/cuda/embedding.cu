// Rows of a table by id. Reads the ids and their rows, writes out: 12288 rows of 1024 in bf16, 50 MB, take 17 us on an
// H100.
#include "cuda/data_error.cuh"
#include "cuda/elementwise.cuh"

namespace xlformers::cuda {
namespace {

template <typename T>
struct EmbeddingArgs {
  int64_t first_id, table_rows, columns;
  bool partial, accumulate;
  Compute<T> scale;
  const int32_t* ids;
  const T* table;
  T* out;
  DataError* error;
};

// A thread per pack of the output. Index: uint32_t where everything fits, for its faster division.
template <typename T, int width, typename Index>
__global__ void __launch_bounds__(kElementThreads) take_rows(EmbeddingArgs<T> args, Index count, Index row_packs) {
  const Index step = static_cast<Index>(gridDim.x) * kElementThreads;
  for (Index i = static_cast<Index>(blockIdx.x) * kElementThreads + threadIdx.x; i < count; i += step) {
    const Index n = i / row_packs, place = i - n * row_packs;
    const int32_t id = args.ids[n];
    const int64_t row = id - args.first_id;
    const bool inside = row >= 0 && row < args.table_rows;
    T* const target = args.out + static_cast<int64_t>(i) * width;
    if (!inside) {
      if (!args.partial && place == 0) {
        report(args.error, Operator::embedding, DataErrorKind::id, static_cast<int64_t>(n), id, args.first_id,
               args.first_id + args.table_rows);
      }
      if (args.accumulate) continue;
    }
    Pack<T, width> pack = {};
    if (inside) {
      pack = load_pack<width>(args.table + row * args.columns + static_cast<int64_t>(place) * width);
      Pack<T, width> held = {};
      if (args.accumulate) held = load_pack<width>(target);
#pragma unroll
      for (int k = 0; k < width; ++k) {
        pack.value[k] =
            narrow<T>((args.accumulate ? widen(held.value[k]) : Compute<T>{0}) + widen(pack.value[k]) * args.scale);
      }
    }
    store_pack<width>(target, pack);
  }
}

template <typename T, int width>
Status take(const Context& context, const EmbeddingArgs<T>& args, int64_t rows) {
  const int64_t row_packs = args.columns / width, count = rows * row_packs;
  const LaunchShape shape = {"embedding", element_blocks(context, count), dim3(kElementThreads), 0, context.stream};
  if (count <= INT32_MAX) {
    return launch(shape, take_rows<T, width, uint32_t>, args, static_cast<uint32_t>(count),
                  static_cast<uint32_t>(row_packs));
  }
  return launch(shape, take_rows<T, width, uint64_t>, args, static_cast<uint64_t>(count),
                static_cast<uint64_t>(row_packs));
}

}  // namespace

Status embedding(const Context& context, const void* block) {
  const auto& params = *static_cast<const EmbeddingParams*>(block);
  if (params.count <= 0 || params.columns <= 0) return ok_status();
  return with_float_type(params.dtype, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    const EmbeddingArgs<T> args = {params.first_id,
                                   params.table_rows,
                                   params.columns,
                                   params.partial != 0,
                                   params.accumulate != 0,
                                   static_cast<Compute<T>>(params.scale),
                                   params.ids,
                                   static_cast<const T*>(params.table),
                                   static_cast<T*>(params.out),
                                   context.data_error};
    constexpr int kWidth = pack_elements<T>();
    if (args.columns % kWidth == 0 && aligned_for_packs<kWidth>(args.table, args.out)) {
      return take<T, kWidth>(context, args, params.count);
    }
    return take<T, 1>(context, args, params.count);
  });
}

}  // namespace xlformers::cuda
