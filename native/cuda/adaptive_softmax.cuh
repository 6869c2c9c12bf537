// What the operators of the projected adaptive softmax share on the host: matrix products, and the logits of one chunk
// of rows after another (native/cpu/adaptive_softmax.h).
//
// Logits are stored in the operand's type, as matrix_product writes them; sums and losses have Compute<T>. The label's
// logit is taken from the same stored logits, so that no loss is negative.
#pragma once

#include "core/adaptive_softmax.h"
#include "cuda/adaptive_rows.cuh"
#include "cuda/adaptive_softmax.h"
#include "cuda/gemm.h"

namespace xlformers::cuda {

// Enqueues the grouping of rows by the cluster of their label.
class RowGroups {
 public:
  Status find(const Context& context, const AdaptiveSoftmaxParams& params, Operator op) {
    if (params.cluster_count > kMostClusters || params.rows > INT32_MAX) {
      return make_status(StatusCode::unsupported, "%lld rows and %d clusters, expected at most %d and %d",
                         static_cast<long long>(params.rows), params.cluster_count, INT32_MAX, kMostClusters);
    }
    const int64_t tails = params.cluster_count - 1;
    grouping_.rows = params.rows;
    grouping_.labels = params.labels;
    grouping_.head_columns = context.workspace.allocate<int32_t>(params.rows);
    grouping_.lists = context.workspace.allocate<int32_t>(params.rows * tails);
    grouping_.counts = context.workspace.allocate<int32_t>(tails);
    grouping_.op = op;
    grouping_.error = context.data_error;
    grouping_.reversed_clusters = params.reversed_clusters;
    grouping_.cluster_count = params.cluster_count;
    for (int32_t i = 0; i < params.cluster_count; ++i) {
      grouping_.ends[i] = static_cast<int32_t>(params.clusters[i].first_id + params.clusters[i].size);
    }
    return launch(
        {"group_labels", dim3(static_cast<unsigned>(params.cluster_count)), dim3(kGroupingThreads), 0, context.stream},
        group_labels, grouping_);
  }

  // All rows meet the head.
  LabelledRows of(int32_t cluster) const {
    if (cluster == 0) return {nullptr, nullptr, grouping_.head_columns, 0};
    return {grouping_.lists + (cluster - 1) * grouping_.rows, grouping_.counts + cluster - 1, grouping_.labels,
            grouping_.ends[cluster - 1]};
  }

 private:
  Grouping grouping_ = {};
};

// How the logits of `count` rows are cut up.
struct Chunking {
  int64_t rows;
  int64_t columns;  // of one block at most
  int64_t stride;   // of a row of logits: begins at a multiple of 16 bytes
  bool whole;       // a chunk's logits are in memory all together
};

inline Chunking chunking_of(const ChunkLimits& limits, size_t element_bytes, int64_t count, int64_t columns) {
  constexpr int64_t kPanel = 8;
  const int64_t logits = limits.logit_bytes / static_cast<int64_t>(element_bytes);
  const int64_t stride = (columns + kPanel - 1) / kPanel * kPanel, rows = std::min(count, limits.most_rows);
  if (rows * stride <= logits) return {rows, columns, stride, true};
  if (limits.fewest_rows * stride <= logits) return {logits / stride, columns, stride, true};
  const int64_t block = std::max(kPanel, logits / rows / kPanel * kPanel);
  return {rows, block, block, false};
}

template <typename T>
constexpr DType dtype_of() {
  if constexpr (std::is_same_v<T, double>) return DType::f64;
  if constexpr (std::is_same_v<T, float>) return DType::f32;
  return std::is_same_v<T, __nv_bfloat16> ? DType::bf16 : DType::f16;
}

// c[rows, columns] (+)= op(a) op(b) + bias; of a tail's rows those that are there.
template <typename T>
Status multiply(const Context& context, const DeviceCount& there, int64_t rows, int64_t columns, int64_t inner,
                Operand<T> a, Operand<T> b, const T* bias, bool accumulate, T* c, int64_t c_stride) {
  const MatrixProductParams params =
      product_params(dtype_of<T>(), rows, columns, inner, a, b, bias, accumulate, c, c_stride);
  const Workspace::Mark mark = context.workspace.mark();
  const Status status =
      there.count == nullptr ? matrix_product(context, &params) : multiply_rows_there(context, params, there);
  context.workspace.release(mark);
  return status;
}

// logits[rows, count] of columns [first, first + count) of a part
template <typename T>
Status part_logits(const Context& context, const DeviceCount& there, const LogitPart& part, int64_t width,
                   int64_t first, int64_t count, int64_t rows, const T* projected, T* logits, int64_t logits_stride) {
  const Operand<T> weight = {static_cast<const T*>(part.weight) + first * width, width, true};
  const T* const bias = part.bias != nullptr ? static_cast<const T*>(part.bias) + first : nullptr;
  return multiply<T>(context, there, rows, count, width, {projected, width, false}, weight, bias, false, logits,
                     logits_stride);
}

// hidden P: [rows, width] into `buffer`, or hidden itself where there is no projection.
template <typename T>
Status project(const Context& context, const DeviceCount& there, const AdaptiveSoftmaxParams& params,
               const SoftmaxCluster& cluster, int64_t rows, const T* hidden, T* buffer, const T** projected) {
  if (cluster.projection == nullptr) {
    *projected = hidden;
    return ok_status();
  }
  *projected = buffer;
  const Operand<T> projection = {static_cast<const T*>(cluster.projection), cluster.width, false};
  return multiply<T>(context, there, rows, cluster.width, params.d_model, {hidden, params.d_model, false}, projection,
                     nullptr, false, buffer, cluster.width);
}

// Scratch memory that serves one softmax after another.
template <typename T>
class ChunkBuffers {
 public:
  using C = Compute<T>;

  ChunkBuffers(const Context& context, const AdaptiveSoftmaxParams& params, const ChunkLimits& limits)
      : limits_(limits) {
    int64_t rows = 0, projected_elements = 0, logit_elements = 0;
    for (int32_t i = 0; i < params.cluster_count; ++i) {
      const Softmax softmax = softmax_of(params, i);
      const Chunking chunking = chunking_of(params.rows, softmax.columns);
      rows = std::max(rows, chunking.rows);
      logit_elements = std::max(logit_elements, chunking.rows * chunking.stride);
      if (softmax.cluster->projection != nullptr)
        projected_elements = std::max(projected_elements, chunking.rows * softmax.cluster->width);
    }
    gathered = params.cluster_count > 1 ? context.workspace.allocate<T>(rows * params.d_model) : nullptr;
    projected = context.workspace.allocate<T>(projected_elements);
    logits = context.workspace.allocate<T>(logit_elements);
    sums.sums = context.workspace.allocate<ExponentialSum<C>>(rows);
    sums.label_logits = context.workspace.allocate<C>(rows);
    sums.log_sum_exp = context.workspace.allocate<C>(rows);
    chunk_rows = rows;
    chunk_projected = projected_elements;
  }

  Chunking chunking_of(int64_t rows, int64_t columns) const {
    return cuda::chunking_of(limits_, sizeof(T), rows, columns);
  }

  T *gathered, *projected, *logits;
  ChunkSums<C> sums;
  int64_t chunk_rows, chunk_projected;  // what the largest chunk takes

 private:
  const ChunkLimits limits_;
};

// The logits of one chunk of rows after another.
template <typename T>
class LogitChunks {
 public:
  using C = Compute<T>;

  LogitChunks(const Context& context, const AdaptiveSoftmaxParams& params, const ChunkBuffers<T>& buffers,
              const RowGroups& groups, int32_t index)
      : context_(context),
        params_(params),
        buffers_(buffers),
        softmax_(softmax_of(params, index)),
        rows_(groups.of(index)),
        chunking_(buffers.chunking_of(params.rows, softmax_.columns)) {}

  // visit(chunk size) for one chunk after another, with their log-sum-exps and projected states made; `loss` is null or
  // receives the losses.
  template <typename Visit>
  Status for_chunks(C* loss, const Visit& visit) {
    for (begin_ = 0; begin_ < params_.rows; begin_ += chunking_.rows) {
      size_ = std::min(params_.rows - begin_, chunking_.rows);
      Status status = enter(loss);
      if (status.ok()) status = visit();
      if (!status.ok()) return status;
    }
    return ok_status();
  }

  // visit(block, last of the columns) for every block of the chunk's columns.
  template <typename Visit>
  Status for_blocks(const Visit& visit) {
    for (int64_t first = 0; first < softmax_.columns; first += chunking_.columns) {
      const int64_t count = std::min(softmax_.columns - first, chunking_.columns);
      const LogitBlock<T> block = {rows_, begin_, first, count, chunking_.stride, buffers_.logits};
      // A chunk that is held whole has its logits made once; any other makes them again for each visit.
      Status status = filled_ ? ok_status() : fill(block);
      if (status.ok()) status = visit(block, first + count == softmax_.columns);
      if (!status.ok()) return status;
    }
    return ok_status();
  }

  // visit(part, its first column, number of columns, where their logits begin) for what a block has of each part.
  template <typename Visit>
  Status for_parts(const LogitBlock<T>& block, const Visit& visit) {
    int64_t part_begin = 0;
    for (int i = 0; i < softmax_.part_count; part_begin += softmax_.parts[i].columns, ++i) {
      const LogitPart& part = softmax_.parts[i];
      const int64_t first = std::max(block.first_column, part_begin);
      const int64_t end = std::min(block.first_column + block.columns, part_begin + part.columns);
      if (first >= end) continue;
      const Status status = visit(part, first - part_begin, end - first, block.logits + (first - block.first_column));
      if (!status.ok()) return status;
    }
    return ok_status();
  }

  int64_t begin() const { return begin_; }
  int64_t size() const { return size_; }
  const Softmax& softmax() const { return softmax_; }
  const LabelledRows& rows() const { return rows_; }
  DeviceCount there() const { return {rows_.count, begin_}; }
  bool gathers() const { return rows_.list != nullptr; }
  const T* hidden() const { return hidden_; }        // [size, d_model]
  const T* projected() const { return projected_; }  // [size, width]

  LaunchShape row_shape(const char* name, int threads) const { return row_launch(context_, name, size_, threads); }

 private:
  Status enter(C* loss) {
    Status status = gather();
    if (status.ok())
      status = project(context_, there(), params_, *softmax_.cluster, size_, hidden_, buffers_.projected, &projected_);
    if (!status.ok()) return status;
    filled_ = false;
    status = for_blocks([&](const LogitBlock<T>& block, bool last) {
      const bool first = block.first_column == 0;
      const auto shape = [&](int threads) { return row_shape("adaptive_softmax: sum_logits", threads); };
      if (block.columns <= kShortRow) {
        return launch(shape(kShortRowThreads), sum_logits<T, kShortRowThreads>, block, buffers_.sums, first, last,
                      loss);
      }
      return launch(shape(kLongRowThreads), sum_logits<T, kLongRowThreads>, block, buffers_.sums, first, last, loss);
    });
    filled_ = chunking_.whole;
    return status;
  }

  Status gather() {
    const T* const hidden = static_cast<const T*>(params_.hidden);
    hidden_ = gathers() ? buffers_.gathered : hidden + begin_ * params_.d_model;
    if (!gathers()) return ok_status();
    return launch(row_shape("adaptive_softmax: gather_rows", kCopyThreads), gather_rows<T>, rows_, begin_,
                  params_.d_model, hidden, buffers_.gathered);
  }

  Status fill(const LogitBlock<T>& block) {
    return for_parts(block, [&](const LogitPart& part, int64_t first, int64_t count, T* logits) {
      return part_logits<T>(context_, there(), part, softmax_.cluster->width, first, count, size_, projected_, logits,
                            block.stride);
    });
  }

  const Context& context_;
  const AdaptiveSoftmaxParams& params_;
  const ChunkBuffers<T>& buffers_;
  const Softmax softmax_;
  const LabelledRows rows_;
  const Chunking chunking_;
  const T* hidden_ = nullptr;
  const T* projected_ = nullptr;
  int64_t begin_ = 0;
  int64_t size_ = 0;
  bool filled_ = false;
};

}  // namespace xlformers::cuda
