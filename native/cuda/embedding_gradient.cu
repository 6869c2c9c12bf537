// The gradient of an embedding table: rows of out_gradient, added up by id in the order of their positions.
//
// Positions are sorted by id, then cut into chunks of 32: a block adds the runs of equal ids in its chunk. A run within
// one chunk is written to the table at once; of longer runs the parts are kept, and a second launch adds them in order.
// So a frequent id costs no more than others, and the sums do not depend on scheduling.
//
// Reads out_gradient once, writes the table once unless it accumulates, and the table rows that occur. 12288 positions
// of 1024 in bf16 to a table of 32000 rows: 25 MB + 66 MB, 30 us on an H100, and 25 us for sorting.
#include "cuda/data_error.cuh"
#include "cuda/radix_sort.cuh"

namespace xlformers::cuda {
namespace {

constexpr int kRunThreads = 128, kRunPositions = 32, kRunLoads = 4;

// Table rows of ids; `outside` for ids of other tables.
struct TableRow {
  const int32_t* ids;
  int64_t first_id, table_rows;
  uint32_t outside;
  bool partial;
  uint32_t* keys;
  DataError* error;

  __device__ void operator()(int64_t n) const {
    const int64_t row = ids[n] - first_id;
    const bool inside = row >= 0 && row < table_rows;
    keys[n] = inside ? static_cast<uint32_t>(row) : outside;
    if (!inside && !partial) {
      report(error, Operator::embedding_gradient, DataErrorKind::id, n, ids[n], first_id, first_id + table_rows);
    }
  }
};

template <typename T>
struct RunArgs {
  SortedKeys sorted;
  uint32_t count, outside;
  int64_t columns;
  bool accumulate;
  Compute<T> scale;
  const T* out_gradient;
  T* table_gradient;
  Compute<T>* parts;  // [chunks][2][columns]: of the run that began before the chunk and ends in it, of the one that
                      // goes on behind it

  __device__ Compute<T>* part(int64_t chunk, int which) const { return parts + (chunk * 2 + which) * columns; }

  template <int width>
  __device__ void add_to_table(uint32_t key, int64_t column, const Pack<Compute<T>, width>& sum) const {
    T* const target = table_gradient + static_cast<int64_t>(key) * columns + column;
    Pack<T, width> held = {};
    if (accumulate) held = load_pack<width>(target);
#pragma unroll
    for (int k = 0; k < width; ++k) {
      held.value[k] = narrow<T>((accumulate ? widen(held.value[k]) : Compute<T>{0}) + sum.value[k] * scale);
    }
    store_pack<width>(target, held);
  }
};

// Grid: x over chunks, y over columns.
template <typename T, int width>
__global__ void __launch_bounds__(kRunThreads) add_runs(RunArgs<T> args) {
  using C = Compute<T>;
  XL_SHARED(keys, uint32_t[kRunPositions + 2]);  // those of the chunk, the one before and the one behind
  XL_SHARED(positions, uint32_t[kRunPositions]);
  const int thread = static_cast<int>(threadIdx.x);
  const int64_t chunk = blockIdx.x, first = chunk * kRunPositions;
  if (thread < kRunPositions + 2) {
    const int64_t i = first + thread - 1;
    keys[thread] = i >= 0 && i < args.count ? args.sorted.keys[i] : args.outside;
  }
  if (thread < kRunPositions)
    positions[thread] = first + thread < args.count ? args.sorted.positions[first + thread] : 0;
  __syncthreads();
  const int64_t column = (static_cast<int64_t>(blockIdx.y) * kRunThreads + thread) * width;
  if (column >= args.columns) return;
  Pack<C, width> sum = {};
  bool began_before = keys[0] == keys[1];
  // Ids of other tables are last.
  for (int base = 0; base < kRunPositions && keys[base + 1] != args.outside; base += kRunLoads) {
    Pack<T, width> rows[kRunLoads];  // those behind the last id of the table are rows too, but not added
#pragma unroll
    for (int j = 0; j < kRunLoads; ++j) {
      rows[j] = load_pack<width>(args.out_gradient + static_cast<int64_t>(positions[base + j]) * args.columns + column);
    }
#pragma unroll
    for (int j = 0; j < kRunLoads; ++j) {
      const uint32_t key = keys[base + j + 1], next = keys[base + j + 2];
      if (key == args.outside) continue;
#pragma unroll
      for (int k = 0; k < width; ++k) sum.value[k] += widen(rows[j].value[k]);
      const bool last = base + j == kRunPositions - 1;
      if (key == next && !last) continue;
      if (key == next) {
        store_pack<width>(args.part(chunk, 1) + column, sum);
      } else if (began_before) {
        store_pack<width>(args.part(chunk, 0) + column, sum);
      } else {
        args.add_to_table(key, column, sum);
      }
      sum = {};
      began_before = false;
    }
  }
}

// Grid: x over chunks, y over columns: the chunk in which a run begins that goes on behind it adds the run's parts.
template <typename T, int width>
__global__ void __launch_bounds__(kRunThreads) join_runs(RunArgs<T> args) {
  using C = Compute<T>;
  const int64_t chunk = blockIdx.x, first = chunk * kRunPositions, behind = first + kRunPositions;
  const int64_t column = (static_cast<int64_t>(blockIdx.y) * kRunThreads + threadIdx.x) * width;
  if (column >= args.columns || behind >= args.count) return;
  const uint32_t* const keys = args.sorted.keys;
  const uint32_t key = keys[behind - 1];
  if (key == args.outside || keys[behind] != key) return;
  if (first > 0 && keys[first - 1] == key) return;  // it began before this chunk
  // The first position that does not belong to the run.
  int64_t low = behind + 1, high = args.count;
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (keys[middle] == key) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  const int64_t last_chunk = (low - 1) / kRunPositions;
  // A run that fills its last chunk and ends with it leaves its part where one that began before and ends does.
  Pack<C, width> sum = load_pack<width>(args.part(chunk, 1) + column);
#pragma unroll 4
  for (int64_t c = chunk + 1; c <= last_chunk; ++c) {
    const Pack<C, width> part = load_pack<width>(args.part(c, c < last_chunk ? 1 : 0) + column);
#pragma unroll
    for (int k = 0; k < width; ++k) sum.value[k] += part.value[k];
  }
  args.add_to_table(key, column, sum);
}

template <typename T, int width>
Status add_rows(const Context& context, const RunArgs<T>& args) {
  const int64_t chunks = divide_up(args.count, kRunPositions),
                column_blocks = divide_up(args.columns, kRunThreads * width);
  if (column_blocks > 65535) {
    return make_status(StatusCode::unsupported, "embedding_gradient: %lld columns, expected at most %d",
                       static_cast<long long>(args.columns), 65535 * kRunThreads * width);
  }
  const dim3 grid(static_cast<unsigned>(chunks), static_cast<unsigned>(column_blocks));
  const LaunchShape shape = {"embedding_gradient", grid, dim3(kRunThreads), 0, context.stream};
  const Status status = launch(shape, add_runs<T, width>, args);
  return status.ok() ? launch(shape, join_runs<T, width>, args) : status;
}

template <typename T>
Status run(const Context& context, const EmbeddingGradientParams& params) {
  if (params.columns <= 0) return ok_status();
  if (params.accumulate == 0 && params.table_rows > 0) {
    const FillParams zero = {params.dtype, params.table_rows * params.columns, 0, params.table_gradient};
    const Status status = fill(context, &zero);
    if (!status.ok()) return status;
  }
  if (params.count <= 0) return ok_status();
  if (params.count > INT32_MAX) {
    return make_status(StatusCode::unsupported, "embedding_gradient: %lld positions, expected at most %d",
                       static_cast<long long>(params.count), INT32_MAX);
  }
  RunArgs<T> args = {};
  args.count = static_cast<uint32_t>(params.count);
  // Ids are 32-bit, and so is what is left of them after first_id: larger tables have rows that no id reaches.
  args.outside = static_cast<uint32_t>(std::min<int64_t>(params.table_rows, UINT32_MAX));
  args.columns = params.columns;
  args.accumulate = params.accumulate != 0;
  args.scale = static_cast<Compute<T>>(params.scale);
  args.out_gradient = static_cast<const T*>(params.out_gradient);
  args.table_gradient = static_cast<T*>(params.table_gradient);
  auto* const keys = context.workspace.allocate<uint32_t>(params.count);
  const TableRow row = {params.ids, params.first_id,   params.table_rows, args.outside, params.partial != 0,
                        keys,       context.data_error};
  Status status = for_each(context, "embedding_gradient", params.count, row);
  if (!status.ok()) return status;
  status = sort_keys(context, "embedding_gradient", keys, args.count, args.outside, &args.sorted);
  if (!status.ok()) return status;
  args.parts = context.workspace.allocate<Compute<T>>(divide_up(params.count, kRunPositions) * 2 * params.columns);
  constexpr int kWidth = pack_elements<T>();
  const bool packed = params.columns % kWidth == 0 && aligned_for_packs<kWidth>(args.out_gradient, args.table_gradient);
  return packed ? add_rows<T, kWidth>(context, args) : add_rows<T, 1>(context, args);
}

}  // namespace

Status embedding_gradient(const Context& context, const void* block) {
  const auto& params = *static_cast<const EmbeddingGradientParams*>(block);
  return with_float_type(params.dtype, [&](auto tag) { return run<typename decltype(tag)::Type>(context, params); });
}

}  // namespace xlformers::cuda
