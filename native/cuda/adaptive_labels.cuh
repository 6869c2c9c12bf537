// Which rows meet which softmax of the adaptive softmax. The number of a tail's rows is known on the device only, where
// the kernels read it: the host enqueues chunks for all rows, and those beyond the number end at once.
#pragma once

#include "cuda/data_error.cuh"
#include "cuda/row_softmax.cuh"

namespace xlformers::cuda {

constexpr int kMostClusters = 1024;
constexpr int kGroupingThreads = 512;

// The rows that meet one softmax, ascending, and their labels' columns in it.
struct LabelledRows {
  const int32_t* list;   // null: all rows of the operator
  const int32_t* count;  // of the list
  const int32_t* labels;
  int64_t first_label;  // column of row r: labels[r] - first_label; negative: the row does not count

  __device__ __forceinline__ bool holds(int64_t i) const { return count == nullptr || i < *count; }
  __device__ __forceinline__ int64_t row(int64_t i) const { return list == nullptr ? i : list[i]; }
  __device__ __forceinline__ int64_t column(int64_t row) const { return labels[row] - first_label; }
};

struct Grouping {
  int64_t rows;
  const int32_t* labels;
  int32_t* head_columns;  // [rows]: of the label, or of its cluster; -1 where there is none
  int32_t* lists;         // [cluster_count - 1, rows]
  int32_t* counts;        // [cluster_count - 1]
  Operator op;
  DataError* error;
  int32_t reversed_clusters;
  int32_t cluster_count;
  int32_t ends[kMostClusters];  // cluster c: ids from ends[c - 1], or 0, to ends[c]
};

// Number of set `flag`s in lower threads of the block, which `total` counts.
template <int threads>
__device__ __forceinline__ int count_before(bool flag, int& total) {
  XL_SHARED(of_warp, int[threads / 32]);
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const uint32_t flags = __ballot_sync(0xFFFFFFFFu, flag ? 1 : 0);
  __syncthreads();  // the last use of `of_warp`
  if (lane == 0) of_warp[warp] = __popc(flags);
  __syncthreads();
  int before = __popc(flags & ((1u << lane) - 1));
  total = 0;
#pragma unroll
  for (int w = 0; w < threads / 32; ++w) {
    if (w == warp) before += total;
    total += of_warp[w];
  }
  return before;
}

// A block per cluster: the first writes the head's columns, the others the lists of the tails. Labels out of range are
// reported (the first of them) and do not count. Reads 4 bytes per row and cluster; 8192 rows take 16 turns of a block,
// about 10 us.
static __global__ void __launch_bounds__(kGroupingThreads) group_labels(const __grid_constant__ Grouping grouping) {
  const int cluster = static_cast<int>(blockIdx.x), tails = grouping.cluster_count - 1;
  if (cluster == 0) {
    const int32_t head = grouping.ends[0], vocabulary = grouping.ends[tails];
    auto first_bad = static_cast<long long>(grouping.rows);
    for (int64_t row = threadIdx.x; row < grouping.rows; row += kGroupingThreads) {
      const int32_t label = grouping.labels[row];
      int32_t column = -1;
      if (label >= 0 && label < vocabulary) {
        int tail = 0;
        while (label >= grouping.ends[tail]) ++tail;
        column = tail == 0 ? label : head + (grouping.reversed_clusters != 0 ? tails - tail : tail - 1);
      } else if (label != kIgnoredLabel && row < first_bad) {
        first_bad = row;
      }
      grouping.head_columns[row] = column;
    }
    first_bad = block_reduce<kGroupingThreads>(first_bad, [](long long a, long long b) { return b < a ? b : a; });
    if (threadIdx.x == 0 && first_bad < grouping.rows) {
      report(grouping.error, grouping.op, DataErrorKind::label, first_bad, grouping.labels[first_bad], 0, vocabulary);
    }
    return;
  }
  const int32_t begin = grouping.ends[cluster - 1], end = grouping.ends[cluster];
  int32_t* const list = grouping.lists + (cluster - 1) * grouping.rows;
  int32_t count = 0;
  for (int64_t first = 0; first < grouping.rows; first += kGroupingThreads) {
    const int64_t row = first + threadIdx.x;
    const int32_t label = row < grouping.rows ? grouping.labels[row] : -1;
    const bool mine = label >= begin && label < end;
    int found;
    const int before = count_before<kGroupingThreads>(mine, found);
    if (mine) list[count + before] = static_cast<int32_t>(row);
    count += found;
  }
  if (threadIdx.x == 0) grouping.counts[cluster - 1] = count;
}

}  // namespace xlformers::cuda
