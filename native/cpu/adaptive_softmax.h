// What the operators of the projected adaptive softmax share: which rows meet which softmax, and matrix products by
// chunks of rows and blocks of columns, so that the logits of a large vocabulary never exist all at once.
#pragma once

#include "core/adaptive_softmax.h"
#include "cpu/kernels.h"
#include "cpu/log_sum_exp.h"

XL_KERNELS_BEGIN

// Memory for logits at a time; the operators' whole scratch memory is this and a few [chunk rows, d_model] matrices.
constexpr int64_t kLogitBytes = 16 << 20;
constexpr int64_t kMostChunkRows = 1024;
// Rather than fewer rows, columns are split: every chunk reads all weights.
constexpr int64_t kFewestChunkRows = 128;

// The cluster an id belongs to, or -1.
static inline int32_t cluster_of(const AdaptiveSoftmaxParams& params, int64_t id) {
  for (int32_t i = 0; i < params.cluster_count; ++i) {
    const int64_t within = id - params.clusters[i].first_id;
    if (within >= 0 && within < params.clusters[i].size) return i;
  }
  return -1;
}

static inline Status check_adaptive_labels(const char* name, const AdaptiveSoftmaxParams& params) {
  int64_t vocabulary = 0;
  for (int32_t i = 0; i < params.cluster_count; ++i) vocabulary += params.clusters[i].size;
  for (int64_t row = 0; row < params.rows; ++row) {
    const int32_t label = params.labels[row];
    if (label != kIgnoredLabel && cluster_of(params, label) < 0) {
      return make_status(StatusCode::out_of_range, "%s: label %d at row %lld is neither %d (ignored) nor in [0, %lld)",
                         name, label, static_cast<long long>(row), kIgnoredLabel, static_cast<long long>(vocabulary));
    }
  }
  return ok_status();
}

// The rows that meet a softmax, ascending, and their labels' columns in it.
struct LabelledRows {
  int64_t* row;
  int64_t* column;
  int64_t count;

  bool contiguous(int64_t begin, int64_t size) const {
    return size == 0 || row[begin + size - 1] - row[begin] == size - 1;
  }
};

static inline LabelledRows labelled_rows(Context& context, const AdaptiveSoftmaxParams& params, int32_t index) {
  LabelledRows rows = {context.workspace.allocate<int64_t>(params.rows),
                       context.workspace.allocate<int64_t>(params.rows), 0};
  for (int64_t row = 0; row < params.rows; ++row) {
    if (params.labels[row] == kIgnoredLabel) continue;
    const int32_t cluster = cluster_of(params, params.labels[row]);
    if (index != 0 && cluster != index) continue;
    rows.row[rows.count] = row;
    rows.column[rows.count] = cluster == index ? params.labels[row] - params.clusters[index].first_id
                                               : params.clusters[0].size + tail_column(params, cluster);
    ++rows.count;
  }
  return rows;
}

// How the logits of `count` rows are cut up.
struct Chunking {
  int64_t rows;
  int64_t columns;  // of one block at most
  bool whole;       // a chunk's logits are in memory all together
};

template <typename T>
static inline Chunking chunking_of(int64_t count, int64_t columns) {
  constexpr int64_t kLogits = kLogitBytes / static_cast<int64_t>(sizeof(T));
  const int64_t rows = at_most(count, kMostChunkRows);
  if (rows * columns <= kLogits) return {rows, columns, true};
  if (kFewestChunkRows * columns <= kLogits) return {kLogits / columns, columns, true};
  constexpr int64_t kPanel = 64;  // a multiple of what the matrix product's inner loop works on
  return {rows, kLogits / rows / kPanel * kPanel, false};
}

// c[rows, columns] (+)= op(a) op(b) + bias
template <typename T>
static inline Status multiply(Context& context, int64_t rows, int64_t columns, int64_t inner, Operand<T> a,
                              Operand<T> b, const T* bias, bool accumulate, T* c, int64_t c_stride) {
  const DType dtype = sizeof(T) == 4 ? DType::f32 : DType::f64;
  const MatrixProductParams params =
      product_params(dtype, rows, columns, inner, a, b, bias, accumulate, c, c_stride);
  const Workspace::Mark mark = context.workspace.mark();
  const Status status = matrix_product(context, &params);
  context.workspace.release(mark);
  return status;
}

// logits[rows, count] of columns [first, first + count) of a part
template <typename T>
static inline Status part_logits(Context& context, const LogitPart& part, int64_t width, int64_t first, int64_t count,
                                 int64_t rows, const T* projected, T* logits, int64_t logits_stride) {
  const Operand<T> hidden = {projected, width, false};
  const Operand<T> weight = {static_cast<const T*>(part.weight) + first * width, width, true};
  const T* bias = part.bias != nullptr ? static_cast<const T*>(part.bias) + first : nullptr;
  return multiply(context, rows, count, width, hidden, weight, bias, false, logits, logits_stride);
}

// hidden P: [rows, width] into `buffer`, or hidden itself where there is no projection.
template <typename T>
static inline Status project(Context& context, const AdaptiveSoftmaxParams& params, const SoftmaxCluster& cluster,
                             int64_t rows, const T* hidden, T* buffer, const T** projected) {
  if (cluster.projection == nullptr) {
    *projected = hidden;
    return ok_status();
  }
  *projected = buffer;
  const Operand<T> projection = {static_cast<const T*>(cluster.projection), cluster.width, false};
  return multiply<T>(context, rows, cluster.width, params.d_model, {hidden, params.d_model, false}, projection, nullptr,
                     false, buffer, cluster.width);
}

// The logits of one chunk of rows after another.
template <typename T>
class LogitChunks {
 public:
  LogitChunks(Context& context, const AdaptiveSoftmaxParams& params, const Softmax& softmax, const LabelledRows& rows)
      : context_(context),
        params_(params),
        softmax_(softmax),
        rows_(rows),
        chunking_(chunking_of<T>(rows.count, softmax.columns)) {
    const int64_t columns = chunking_.columns < softmax.columns ? chunking_.columns : softmax.columns;
    gathered_ = context.workspace.allocate<T>(chunking_.rows * params.d_model);
    projected_buffer_ = softmax.cluster->projection != nullptr
                            ? context.workspace.allocate<T>(chunking_.rows * softmax.cluster->width)
                            : nullptr;
    logits_ = context.workspace.allocate<T>(chunking_.rows * columns);
    sums_ = context.workspace.allocate<LogSumExp>(chunking_.rows);
    label_logits_ = context.workspace.allocate<T>(chunking_.rows);
  }

  int64_t chunk_rows() const { return chunking_.rows; }

  // Log-sum-exp and label's logit of rows [begin, begin + size), then available below.
  Status enter(int64_t begin, int64_t size) {
    begin_ = begin;
    size_ = size;
    gather();
    Status status = project(context_, params_, *softmax_.cluster, size, hidden_, projected_buffer_, &projected_);
    if (!status.ok()) return status;
    for (int64_t i = 0; i < size; ++i) sums_[i] = LogSumExp{};
    // A chunk that is held whole gets its logits here, once; any other makes them again for each visit.
    filled_ = false;
    status = for_blocks([&](const LogitPart&, int64_t, int64_t first_column, int64_t count, const T* logits) {
      parallel_blocks(context_, size_, rows_per_task(count), [&](int64_t first, int64_t last, int) {
        for (int64_t i = first; i < last; ++i) {
          add_to(sums_[i], logits + i * count, count);
          const int64_t column = label_column(i) - first_column;
          if (column >= 0 && column < count) label_logits_[i] = logits[i * count + column];
        }
      });
      return ok_status();
    });
    filled_ = chunking_.whole;
    return status;
  }

  // visit(part, first column within the part, first column within the softmax, columns, logits [size, columns]) for
  // every block.
  template <typename Visit>
  Status for_blocks(const Visit& visit) {
    int64_t part_column = 0;
    for (int i = 0; i < softmax_.part_count; ++i) {
      const LogitPart& part = softmax_.parts[i];
      for (int64_t first = 0; first < part.columns; first += chunking_.columns) {
        const int64_t count = at_most(part.columns - first, chunking_.columns);
        T* logits = chunking_.whole ? logits_ + size_ * part_column : logits_;
        if (!filled_) {
          const Status status =
              part_logits(context_, part, softmax_.cluster->width, first, count, size_, projected_, logits, count);
          if (!status.ok()) return status;
        }
        const Status status = visit(part, first, part_column + first, count, logits);
        if (!status.ok()) return status;
      }
      part_column += part.columns;
    }
    return ok_status();
  }

  int64_t row(int64_t i) const { return rows_.row[begin_ + i]; }
  int64_t label_column(int64_t i) const { return rows_.column[begin_ + i]; }
  double log_sum_exp(int64_t i) const { return sums_[i].value(); }
  double label_logit(int64_t i) const { return static_cast<double>(label_logits_[i]); }
  bool contiguous() const { return rows_.contiguous(begin_, size_); }
  const T* hidden() const { return hidden_; }        // [size, d_model]
  const T* projected() const { return projected_; }  // [size, width]

 private:
  void gather() {
    const T* hidden = static_cast<const T*>(params_.hidden);
    const int64_t d_model = params_.d_model;
    if (contiguous()) {
      hidden_ = hidden + row(0) * d_model;
      return;
    }
    parallel_blocks(context_, size_, rows_per_task(d_model), [&](int64_t first, int64_t last, int) {
      for (int64_t i = first; i < last; ++i) {
        __builtin_memcpy(gathered_ + i * d_model, hidden + row(i) * d_model, static_cast<size_t>(d_model) * sizeof(T));
      }
    });
    hidden_ = gathered_;
  }

  Context& context_;
  const AdaptiveSoftmaxParams& params_;
  const Softmax& softmax_;
  const LabelledRows& rows_;
  const Chunking chunking_;
  T* gathered_;
  T* projected_buffer_;
  T* logits_;
  LogSumExp* sums_;
  T* label_logits_;
  const T* hidden_ = nullptr;
  const T* projected_ = nullptr;
  int64_t begin_ = 0;
  int64_t size_ = 0;
  bool filled_ = false;
};

XL_KERNELS_END
