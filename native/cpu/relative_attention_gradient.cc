// Gradients of relative attention. Probabilities are computed again from the saved log-sum-exp, tile by tile (Dao et al. 2022), so no
// score matrix is stored. With P the probabilities, dP = dropout(dO V^T) and D_i = dO_i . O_i:  dS = P (dP - D).
//   dQ = scale (dS K + dU R),  dK = dS^T scale (Q + u),  dV = dropout(P)^T dO,  dR = dU^T scale (Q + v),  where dU is dS along diagonals
//   du = sum of scale dS K over queries and batch,  dv = sum of scale dU R
// A task owns one (batch, head); dR, du and dv are summed over the batch in its order. Nothing depends on the number of threads.
#include "cpu/attention_dropout.h"
#include "cpu/attention_scores.h"
#include "cpu/kernel.h"

XL_KERNELS_BEGIN

namespace {

constexpr int64_t kDiagonalBlock = kQueryBlock + kKeyBlock;  // diagonals of a tile, one more than there are

// Sizes of one (batch, head), padded to tiles.
struct Extent {
  int64_t head_dim, padded;       // padded: to whole vectors
  int64_t queries, keys;          // to whole blocks
  int64_t diagonals;
};

template <typename T>
struct Scratch {
  T* key_panels;       // for S = Q K^T
  T* value_panels;     // for dP = dO V^T
  T* position_panels;  // for U = Q R^T
  T* key_rows;         // [keys][padded] for dQ
  T* position_rows;    // [diagonals][padded] for dQ
  T* key_gradient;     // [keys][padded]
  T* value_gradient;
  T* query_content;  // columns, see QueryBlock
  T* query_position;
  T* out_gradient;         // by columns [head_dim][kQueryBlock]
  T* content_rows;         // [kQueryBlock][padded]: scale (q + u)
  T* position_query_rows;  // scale (q + v)
  T* out_gradient_rows;
  T* scores;             // [kTileRows][kKeyBlock]
  T* shifted;
  T* probabilities;      // [kQueryBlock][kKeyBlock], dropped
  T* score_gradient;     // dS
  T* diagonal_gradient;  // dU [kQueryBlock][kDiagonalBlock]
  T* query_gradient;     // [kQueryBlock][padded], content part
  T* query_gradient_position;
};

// The elements that each member of Scratch takes, in its order.
template <typename T>
void scratch_sizes(const Extent& e, int64_t* sizes) {
  const int64_t columns = QueryBlock<T>::elements(e.head_dim);
  const int64_t rows = kQueryBlock * e.padded;
  const int64_t all[] = {e.keys * e.head_dim, e.keys * e.head_dim, e.diagonals * e.head_dim, e.keys * e.padded, e.diagonals * e.padded,
                         e.keys * e.padded, e.keys * e.padded, columns, columns, columns, rows, rows, rows, kTileRows * kKeyBlock,
                         kTileRows * kShiftedColumns<T>, kQueryBlock * kKeyBlock, kQueryBlock * kKeyBlock, kQueryBlock * kDiagonalBlock,
                         rows, rows};
  static_assert(sizeof all == sizeof(Scratch<T>), "one size for each member");
  for (size_t i = 0; i < sizeof all / sizeof *all; ++i) sizes[i] = round_up(all[i], kPanel<T>);
}

constexpr int kScratchArrays = sizeof(Scratch<float>) / sizeof(float*);

template <typename T>
class HeadGradient {
 public:
  HeadGradient(const RelativeAttentionGradientParams& params, const AttentionHead<T>& head, const Extent& extent,
               const DropoutMask& mask, const Scratch<T>& scratch, T* position_gradient, T* bias_gradients)
      : params_(params), head_(head), extent_(extent), mask_(mask), scratch_(scratch), position_gradient_(position_gradient),
        content_bias_gradient_(bias_gradients), position_bias_gradient_(bias_gradients + extent.padded) {}

  void run() {
    pack();
    zero(extent_.keys * extent_.padded, scratch_.key_gradient);
    zero(extent_.keys * extent_.padded, scratch_.value_gradient);
    zero(extent_.diagonals * extent_.padded, position_gradient_);
    zero(2 * extent_.padded, content_bias_gradient_);
    const int64_t queries = head_.params.query_length;
    for (int64_t offset = 0; offset < queries; offset += kQueryBlock) query_block(offset, smaller(kQueryBlock, queries - offset));
    write_key_gradients();
  }

 private:
  void pack() {
    const int64_t keys = head_.keys();
    region_ = {extent_.head_dim, 0, extent_.queries, 0, keys, extent_.keys, scratch_.key_panels, scratch_.position_panels};
    region_.pack(head_);
    pack_panels<T>(extent_.keys, extent_.head_dim, [&](int64_t j) { return j < keys ? head_.value(j) : nullptr; },
                   scratch_.value_panels);
    for (int64_t j = 0; j < extent_.keys; ++j) {
      T* row = scratch_.key_rows + j * extent_.padded;
      if (j < keys) {
        copy_padded(head_.key(j), extent_.head_dim, extent_.padded, row);
      } else {
        zero(extent_.padded, row);
      }
    }
    for (int64_t x = 0; x < extent_.diagonals; ++x) {
      const T* position = head_.position(region_.distance(head_, x));
      T* row = scratch_.position_rows + x * extent_.padded;
      if (position != nullptr) copy_padded(position, extent_.head_dim, extent_.padded, row);
      else zero(extent_.padded, row);
    }
  }

  // Queries and output gradients of a block by columns and by rows; delta_[r] = dO_r . O_r.
  void pack_queries(int64_t first, int64_t count) {
    QueryBlock<T> block{scratch_.content_rows, scratch_.position_query_rows, scratch_.query_content, scratch_.query_position};
    block.pack(head_, first, count);
    const T head_scale = head_.scale_of_head();
    zero(kQueryBlock * extent_.padded, scratch_.out_gradient_rows);
    for (int64_t r = 0; r < count; ++r) {
      const T* gradient = static_cast<const T*>(params_.out_gradient) + head_.out_offset(first + r);
      const T* out = static_cast<const T*>(head_.params.out) + head_.out_offset(first + r);
      T* row = scratch_.out_gradient_rows + r * extent_.padded;
      T delta = 0;
      for (int64_t k = 0; k < extent_.head_dim; ++k) {
        row[k] = gradient[k] * head_scale;
        // `out` carries the head's scale already.
        delta += gradient[k] * out[k];
      }
      delta_[r] = delta;
    }
    QueryBlock<T>::transpose_block(scratch_.out_gradient_rows, extent_.head_dim, extent_.padded, scratch_.out_gradient);
  }

  void query_block(int64_t offset, int64_t count) {
    pack_queries(offset, count);
    zero(kQueryBlock * extent_.padded, scratch_.query_gradient);
    zero(kQueryBlock * extent_.padded, scratch_.query_gradient_position);
    for (int64_t key_offset = head_.first_key(offset) / kKeyBlock * kKeyBlock; key_offset < head_.end_key(offset + count - 1);
         key_offset += kKeyBlock) {
      tile(offset, count, key_offset);
    }
    write_query_gradient(offset, count);
  }

  void tile(int64_t offset, int64_t count, int64_t key_offset) {
    zero(kQueryBlock * kKeyBlock, scratch_.probabilities);
    zero(kQueryBlock * kKeyBlock, scratch_.score_gradient);
    zero(kQueryBlock * kDiagonalBlock, scratch_.diagonal_gradient);
    GroupRange all{kKeyBlock, 0};
    for (int64_t row = 0; row < count; row += kTileRows) {
      const int64_t rows = smaller(kTileRows, count - row);
      const GroupRange range = visible_range(head_, offset + row, offset + row + rows - 1, key_offset);
      if (range.empty()) continue;
      all = {smaller(all.begin, range.begin), larger(all.end, range.end)};
      group(offset, row, rows, key_offset, range);
    }
    if (all.empty()) return;
    // Gradients of keys and values, a group of keys at a time: the queries are the inner dimension.
    for (int64_t j = all.begin / kTileRows * kTileRows; j < all.end; j += kTileRows) {
      const int64_t at = (key_offset + j) * extent_.padded;
      add_product(extent_.padded, count, scratch_.score_gradient + j, 1, kKeyBlock, scratch_.content_rows, extent_.padded,
                  scratch_.key_gradient + at, extent_.padded);
      add_product(extent_.padded, count, scratch_.probabilities + j, 1, kKeyBlock, scratch_.out_gradient_rows, extent_.padded,
                  scratch_.value_gradient + at, extent_.padded);
    }
    const int64_t diagonal = first_diagonal(offset, key_offset);
    // Diagonals that visible keys reach, in groups of tiles.
    const int64_t first = (all.begin + kQueryBlock - count) / kTileRows * kTileRows;
    for (int64_t x = first; x < all.end + kQueryBlock; x += kTileRows) {
      add_product(extent_.padded, count, scratch_.diagonal_gradient + x, 1, kDiagonalBlock, scratch_.position_query_rows, extent_.padded,
                  position_gradient_ + (diagonal + x) * extent_.padded, extent_.padded);
    }
  }

  // The diagonal of the block's last query and first key.
  int64_t first_diagonal(int64_t offset, int64_t key_offset) const { return key_offset - offset - kQueryBlock + extent_.queries; }

  void group(int64_t offset, int64_t row, int64_t rows, int64_t key_offset, GroupRange range) {
    const QueryBlock<T> queries{scratch_.content_rows, scratch_.position_query_rows, scratch_.query_content, scratch_.query_position};
    score_group(region_, queries, offset, row, key_offset, range, scratch_.scores, scratch_.shifted);
    const int64_t first_panel = range.begin / kPanel<T>;
    const int64_t last_panel = (range.end + kPanel<T> - 1) / kPanel<T>;
    T* const gradient = scratch_.score_gradient + row * kKeyBlock;
    panel_product<T>(key_offset / kPanel<T> + first_panel, key_offset / kPanel<T> + last_panel, extent_.head_dim,
                     scratch_.out_gradient + row, 1, kQueryBlock, scratch_.value_panels, gradient + first_panel * kPanel<T>, kKeyBlock);
    const T* log_sum_exp = static_cast<const T*>(head_.params.log_sum_exp);
    for (int64_t r = 0; r < kTileRows; ++r) {
      const int64_t query = offset + row + r;
      const int64_t begin = r < rows ? larger(range.begin, head_.first_key(query) - key_offset) : range.end;
      const int64_t end = larger(begin, r < rows ? smaller(range.end, head_.end_key(query) - key_offset) : range.end);
      T* const p = scratch_.scores + r * kKeyBlock;
      T* const kept = scratch_.probabilities + (row + r) * kKeyBlock;
      T* const dp = gradient + r * kKeyBlock;
      // What the tiles computed beyond the visible keys.
      for (int64_t j = first_panel * kPanel<T>; j < begin; ++j) dp[j] = 0;
      for (int64_t j = end; j < last_panel * kPanel<T>; ++j) dp[j] = 0;
      if (begin >= end) continue;
      const T shift = log_sum_exp[head_.statistic_offset(query)];
      exponentials(p, begin, end, shift);
      if (mask_.threshold > 0) {
        drop(mask_, head_.pair(), query, key_offset, begin, end, p, kept);
        drop(mask_, head_.pair(), query, key_offset, begin, end, dp, dp);
      } else {
        __builtin_memcpy(kept + begin, p + begin, static_cast<size_t>(end - begin) * sizeof(T));
      }
      const T delta = delta_[row + r];
      T* const diagonal = scratch_.diagonal_gradient + (row + r) * kDiagonalBlock + (kQueryBlock - 1 - (row + r));
      for (int64_t j = begin; j < end; ++j) {
        const T value = p[j] * (dp[j] - delta);
        dp[j] = value;
        diagonal[j] = value;
      }
    }
    add_product(extent_.padded, range.end - range.begin, gradient + range.begin, kKeyBlock, 1,
                scratch_.key_rows + (key_offset + range.begin) * extent_.padded, extent_.padded,
                scratch_.query_gradient + row * extent_.padded, extent_.padded);
    // Row r of the group has its diagonals from range.begin + kQueryBlock - 1 - (row + r) on.
    const int64_t x_begin = range.begin + kQueryBlock - kTileRows - row;
    const int64_t x_end = range.end + kQueryBlock - 1 - row;
    add_product(extent_.padded, x_end - x_begin, scratch_.diagonal_gradient + row * kDiagonalBlock + x_begin, kDiagonalBlock, 1,
                scratch_.position_rows + (first_diagonal(offset, key_offset) + x_begin) * extent_.padded, extent_.padded,
                scratch_.query_gradient_position + row * extent_.padded, extent_.padded);
  }

  static void exponentials(T* p, int64_t begin, int64_t end, T shift) {
    int64_t j = begin;
    for (; j + kLanes<T> <= end; j += kLanes<T>) store(p + j, exponential(load(p + j) - shift));
    if (j < end) {
      const int count = static_cast<int>(end - j);
      store_partial<T>(p + j, exponential(load_partial(p + j, count) - shift), count);
    }
  }

  void write_query_gradient(int64_t offset, int64_t count) {
    const T scale = static_cast<T>(head_.params.scale);
    for (int64_t r = 0; r < count; ++r) {
      const T* content = scratch_.query_gradient + r * extent_.padded;
      const T* position = scratch_.query_gradient_position + r * extent_.padded;
      T* out = static_cast<T*>(params_.query_gradient) + head_.batch * head_.params.query_batch_stride +
               (offset + r) * head_.params.query_row_stride + head_.head * extent_.head_dim;
      for (int64_t k = 0; k < extent_.head_dim; ++k) {
        out[k] = scale * (content[k] + position[k]);
        content_bias_gradient_[k] += scale * content[k];
        position_bias_gradient_[k] += scale * position[k];
      }
    }
  }

  void write_key_gradients() {
    write_rows(head_.params.memory, 0, params_.memory_key_gradient, params_.memory_value_gradient);
    write_rows(head_.params.current, head_.params.memory.length, params_.current_key_gradient, params_.current_value_gradient);
  }

  void write_rows(const AttentionRows& rows, int64_t first, void* keys, void* values) {
    for (int64_t j = 0; j < rows.length; ++j) {
      const int64_t to = head_.batch * rows.batch_stride + j * rows.row_stride + head_.head * extent_.head_dim;
      const size_t bytes = static_cast<size_t>(extent_.head_dim) * sizeof(T);
      __builtin_memcpy(static_cast<T*>(keys) + to, scratch_.key_gradient + (first + j) * extent_.padded, bytes);
      __builtin_memcpy(static_cast<T*>(values) + to, scratch_.value_gradient + (first + j) * extent_.padded, bytes);
    }
  }

  const RelativeAttentionGradientParams& params_;
  const AttentionHead<T>& head_;
  const Extent& extent_;
  const DropoutMask& mask_;
  const Scratch<T>& scratch_;
  T* position_gradient_;  // [diagonals][padded]
  T* content_bias_gradient_;
  T* position_bias_gradient_;
  AttentionRegion<T> region_;
  T delta_[kQueryBlock];
};

// position_gradient, content_bias_gradient, position_bias_gradient: sums over the batch, in its order.
template <typename T>
void reduce_over_batch(Context& context, const RelativeAttentionGradientParams& params, const Extent& e, const T* positions,
                       const T* biases) {
  const RelativeAttentionParams& forward = params.forward;
  const int64_t position_size = e.diagonals * e.padded;
  // Diagonal x of the whole problem is distance M + T' - 1 - x, with T' the padded number of queries.
  const int64_t first_diagonal_distance = forward.memory.length + e.queries - 1;
  context.pool.parallel_for(forward.position_rows, [&](int64_t row, int) {
    const int64_t x = first_diagonal_distance - (forward.first_distance + row);
    for (int64_t head = 0; head < forward.heads; ++head) {
      T* to = static_cast<T*>(params.position_gradient) + row * forward.position_row_stride + head * e.head_dim;
      for (int64_t k = 0; k < e.head_dim; ++k) to[k] = 0;
      if (x < 0 || x >= e.diagonals) continue;
      for (int64_t batch = 0; batch < forward.batch; ++batch) {
        const T* from = positions + (batch * forward.heads + head) * position_size + x * e.padded;
        for (int64_t k = 0; k < e.head_dim; ++k) to[k] += from[k];
      }
    }
  });
  void* const outputs[] = {params.content_bias_gradient, params.position_bias_gradient};
  for (int which = 0; which < 2; ++which) {
    if (outputs[which] == nullptr) continue;
    for (int64_t head = 0; head < forward.heads; ++head) {
      T* to = static_cast<T*>(outputs[which]) + head * e.head_dim;
      for (int64_t k = 0; k < e.head_dim; ++k) to[k] = 0;
      for (int64_t batch = 0; batch < forward.batch; ++batch) {
        const T* from = biases + ((batch * forward.heads + head) * 2 + which) * e.padded;
        for (int64_t k = 0; k < e.head_dim; ++k) to[k] += from[k];
      }
    }
  }
}

template <typename T>
Status differentiate(Context& context, const RelativeAttentionGradientParams& params) {
  const RelativeAttentionParams& forward = params.forward;
  Status status = refuse_ring(forward.memory);
  if (status.ok()) status = check_memory_starts(forward);
  if (!status.ok()) return status;
  Extent extent;
  extent.head_dim = forward.head_dim;
  extent.padded = round_up(forward.head_dim, kLanes<T>);
  extent.queries = round_up(forward.query_length, kQueryBlock);
  extent.keys = round_up(forward.memory.length + forward.current.length, kKeyBlock);
  // A tile's last group of diagonals may reach beyond its own.
  extent.diagonals = AttentionRegion<T>{extent.head_dim, 0, extent.queries, 0, 0, extent.keys, nullptr, nullptr}.diagonals() + kPanel<T>;
  const DropoutMask mask = dropout_mask(forward.dropout, forward.seed, forward.offset);
  const int64_t pairs = forward.batch * forward.heads;

  int64_t sizes[kScratchArrays];
  scratch_sizes<T>(extent, sizes);
  int64_t total = 0;
  for (const int64_t size : sizes) total += size;
  T* const positions = context.workspace.allocate<T>(pairs * extent.diagonals * extent.padded);
  T* const biases = context.workspace.allocate<T>(pairs * 2 * extent.padded);
  T* const memory = context.workspace.allocate<T>(total * context.pool.threads());
  if (forward.query_length > 0) {
    context.pool.parallel_for(pairs, [&](int64_t pair, int worker) {
      Scratch<T> scratch;
      T** members = reinterpret_cast<T**>(&scratch);
      T* next = memory + worker * total;
      for (int i = 0; i < kScratchArrays; ++i) {
        members[i] = next;
        next += sizes[i];
      }
      const AttentionHead<T> head{forward, pair / forward.heads, pair % forward.heads};
      HeadGradient<T>(params, head, extent, mask, scratch, positions + pair * extent.diagonals * extent.padded,
                      biases + pair * 2 * extent.padded)
          .run();
    });
  } else {
    zero(pairs * extent.diagonals * extent.padded, positions);
    zero(pairs * 2 * extent.padded, biases);
  }
  reduce_over_batch(context, params, extent, positions, biases);
  return ok_status();
}

}  // namespace

Status relative_attention_gradient(Context& context, const void* params) {
  const auto& p = *static_cast<const RelativeAttentionGradientParams*>(params);
  switch (p.forward.dtype) {
    case DType::f32: return differentiate<float>(context, p);
    case DType::f64: return differentiate<double>(context, p);
    default: return make_status(StatusCode::unsupported, "dtype %s, expected f32 or f64", dtype_name(p.forward.dtype));
  }
}

XL_KERNELS_END
